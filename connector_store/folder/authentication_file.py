"""File with an AuthenticationConfiguration, which lists the issuers of callers' tokens.

The file is read at start and after each change. In a cluster, it is the mounted ConfigMap `connectors-authentication`:
kubelet changes a link within a minute or two. A mounted ConfigMap without the file's key names no issuers. If the file
cannot be read otherwise, the previous issuers stay in effect, as in the API server, and the log says why.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final, Never

from watchfiles import awatch

from connector_store.domain.base.errors import ParseError
from connector_store.domain.callers.authentication_config import Issuer, parse_authentication_configuration
from connector_store.folder.yaml_documents import line_of, parse_documents

MAX_FILE_BYTES: Final = 1024 * 1024
"""Maximum size of the file. A ConfigMap cannot be larger."""
POLL_MS: Final = 1000
"""Milliseconds between two reads without a notification. A symbolic link's target may change elsewhere."""

_CONFIG_MAP_LINK: Final = "..data"
"""Link in the folder of a mounted ConfigMap. Source: Kubernetes, pkg/volume/util/atomic_writer.go."""
_NO_ISSUERS: Final = b"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: []\n"

logger = logging.getLogger(__name__)


class AuthenticationFile:
    """Authentication file. `apply` gets the issuers at each change. `disallowed_issuers` are those of the cluster."""

    def __init__(
        self, path: Path, apply: Callable[[Sequence[Issuer]], None], *, disallowed_issuers: Collection[str] = ()
    ) -> None:
        self._path = path
        self._apply = apply
        self._disallowed_issuers = disallowed_issuers
        self._applied_content: bytes | None = None
        self._problem = ""

    def load(self) -> None:
        """Read and apply the file. Blocks. The ParseError names file, line and field."""
        content = self._read()
        issuers = self._parse(content)
        self._applied_content = content
        self._apply(issuers)

    async def run(self) -> Never:
        """Watch the file until cancelled."""
        while True:
            changes = awatch(
                self._path.parent, watch_filter=None, rust_timeout=POLL_MS, yield_on_timeout=True, recursive=False
            )
            try:
                async with aclosing(changes):
                    async for _ in changes:
                        await self._reload()
            except OSError as error:
                self._log_problem(f"{self._path.parent}: {error.strerror}")
            await asyncio.sleep(POLL_MS / 1000)

    async def _reload(self) -> None:
        try:
            content = await asyncio.to_thread(self._read)
            if content == self._applied_content:
                return
            issuers = self._parse(content)
        except ParseError as error:
            self._log_problem(error.reason)
            return
        self._applied_content, self._problem = content, ""
        self._apply(issuers)
        logger.info("%s: tokens of %d issuers are accepted now", self._path, len(issuers))

    def _log_problem(self, problem: str) -> None:
        if problem != self._problem:
            logger.error("%s; the previous issuers stay in effect", problem)
        self._problem = problem

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and (self._path.parent / _CONFIG_MAP_LINK).is_symlink():
                return _NO_ISSUERS
            raise ParseError("connector_authentication", f"{self._path}: {error.strerror}") from error
        if len(content) > MAX_FILE_BYTES:
            raise ParseError("connector_authentication", f"{self._path}: is larger than {MAX_FILE_BYTES} bytes")
        return content

    def _parse(self, content: bytes) -> tuple[Issuer, ...]:
        documents, yaml_problem = parse_documents(content)
        if yaml_problem is not None:
            raise ParseError("connector_authentication", f"{self._path}:{yaml_problem.line}: {yaml_problem.reason}")
        if len(documents) != 1:
            raise ParseError(
                "connector_authentication", f"{self._path}: has {len(documents)} YAML documents; write one"
            )
        try:
            return parse_authentication_configuration(documents[0].value, disallowed_issuers=self._disallowed_issuers)
        except ParseError as error:
            line = line_of(documents[0], error.path)
            raise ParseError("connector_authentication", f"{self._path}:{line}: {error}") from None
