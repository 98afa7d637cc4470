"""A folder of manifests -> the store: the embedded default, which needs no cluster.

Changes are in the store within a second. An object that vanishes is gone only a second later: editors save by writing
a new file and renaming it, and a moved object is in no file for a moment.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never

from watchfiles import awatch

from connector_store.domain.objects.models import Connector, InvalidConnector, Secret, Unusable
from connector_store.domain.permissions.builtin_roles import BUILTIN_ROLES
from connector_store.folder.files import Look, look
from connector_store.folder.manifests import (
    UNKNOWN_FIELD,
    Placed,
    Problem,
    describe,
    secret_problems,
    unusable_problem,
)
from connector_store.store import ObjectIdentity, Store, identify

NAME: Final = "directory"
"""Of this source in the store."""
ROLES: Final = "built-in roles"
"""The source of the ClusterRoles that are there without a manifest."""
GRACE: Final = 1.0
"""Seconds that an object outlives its file."""
POLL: Final = 0.5
"""Seconds between two looks without a notice: links may change their end far away, and grace ends."""
DEBOUNCE: Final = 0.2
"""Seconds that notices are gathered, at most."""
SHARE: Final = 20
"""A look is followed by a pause of at least this many times its length, unless there is a notice."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """An object in the store; `gone` is when it was first missed."""

    placed: Placed
    gone: float | None = None


class DirectorySource:
    """Keeps `store` equal to the manifests in `folder`. `now` is a monotonic clock in seconds."""

    def __init__(
        self, folder: Path, store: Store, *, system_namespace: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._store = store
        store.replace(ROLES, BUILTIN_ROLES.values())
        self._system_namespace = system_namespace
        self._now = now
        self._look = Look()
        self._held: dict[ObjectIdentity, _Held] = {}
        self._next = 0.0
        self._listed = False
        self._logged: tuple[Problem, ...] = ()
        self._unwatched = ""
        self.problems: tuple[Problem, ...] = ()
        """All that is to be mended in the files, sorted by place."""

    @property
    def placed(self) -> tuple[Placed, ...]:
        """What is in the store, and where it stands."""
        return tuple(each.placed for each in self._held.values())

    def load_once(self) -> tuple[Problem, ...]:
        """Read the folder into the store; blocks."""
        self._apply(self._read())
        return self.problems

    async def run(self) -> Never:
        """Follow the folder until cancelled."""
        while True:
            try:
                await self._refresh()
                await self._follow()
                self._unwatched = ""
            except OSError as error:
                self._not_watched(error.strerror or str(error))
            except Exception:  # the loop's one: what is served would stand still
                logger.exception("following the folder %s failed; looking again", self._folder)
            await asyncio.sleep(POLL)

    def _not_watched(self, why: str) -> None:
        """No right to it any more, or none of the kernel's watches left: said once."""
        if why != self._unwatched:
            logger.warning("%s: cannot be watched, so it is only read every %g s: %s", self._folder, POLL, why)
        self._unwatched = why

    async def _follow(self) -> None:
        """Look at each notice, and now and then without; returns when the folder has become another."""
        inode = _inode(self._folder)
        if inode is None:
            return
        changes = awatch(
            self._folder,
            watch_filter=None,
            debounce=int(DEBOUNCE * 1000),
            rust_timeout=int(POLL * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async with aclosing(changes):
            async for notices in changes:
                if notices or self._now() >= self._next:
                    await self._refresh()
                if _inode(self._folder) != inode:
                    return

    async def _refresh(self) -> None:
        begun = self._now()
        self._apply(await asyncio.to_thread(self._read))
        self._log()
        self._next = self._now() + (self._now() - begun) * SHARE

    def _read(self) -> Look:
        return look(self._folder, self._look, system_namespace=self._system_namespace)

    def _apply(self, found: Look) -> None:
        self._look = found
        present: dict[ObjectIdentity, Placed] = {}
        doubles: list[Problem] = []
        for placed in _placed(found):
            known = present.setdefault(identify(placed.object), placed)
            if known is not placed:
                doubles.append(_double(placed, known))
        if self._take(present) or found.changed or not self._listed:
            self._listed = True
            self._store.replace(NAME, [each.placed.object for each in self._held.values()])
            in_files = [problem for file in found.files.values() for problem in file.problems]
            problems = [*found.problems, *in_files, *doubles, *self._unusable(present)]
            self.problems = tuple(sorted(problems, key=lambda each: (each.file, each.line)))

    def _take(self, present: dict[ObjectIdentity, Placed]) -> bool:
        """Bring what is held up to date; True if an object came to be gone for good."""
        now = self._now()
        for key, placed in present.items():
            self._held[key] = _Held(placed)
        missing = {key: held for key, held in self._held.items() if key not in present}
        for key, held in missing.items():
            if held.gone is None:
                held.gone = now
            if now - held.gone >= GRACE:
                del self._held[key]
        return any(key not in self._held for key in missing)

    def _unusable(self, present: dict[ObjectIdentity, Placed]) -> Iterator[Problem]:
        """Connectors that cannot be used, but for those whose fault, or whose Secret's, is named already."""
        secrets = [each.object for each in present.values() if isinstance(each.object, Secret)]
        named = {(each.key.namespace, text) for each in secrets for text in _as_named_by_connectors(each)}
        for placed in present.values():
            if isinstance(placed.object, Connector | InvalidConnector):
                key = placed.object.key
                found = self._store.get(key)
                if (
                    isinstance(found, Unusable)
                    and found.reason != UNKNOWN_FIELD
                    and (key.namespace, found.message) not in named
                ):
                    yield unusable_problem(placed, found)

    def _log(self) -> None:
        """Each problem once, while it lasts."""
        for each in self.problems:
            if each not in self._logged:
                logger.log(logging.WARNING if each.fatal else logging.INFO, "%s", each)
        if self._logged and not self.problems:
            logger.info("all problems of %s are mended", self._folder)
        self._logged = self.problems


def _placed(found: Look) -> Iterator[Placed]:
    for file in found.files.values():
        yield from file.objects


def _double(placed: Placed, known: Placed) -> Problem:
    return Problem(
        file=placed.file,
        line=placed.line,
        subject=describe(placed.object),
        reason=f"is also in {known.file}:{known.line}, which is used; remove one",
    )


def _as_named_by_connectors(secret: Secret) -> Iterator[str]:
    for each in secret_problems(secret):
        yield f'secrets "{secret.key.name}": {each}'


def _inode(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
