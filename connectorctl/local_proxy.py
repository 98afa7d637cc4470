"""A proxy on loopback for one command: on a port that is free, without an admin address, until the command ends."""

import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl import proxy_client, supervision
from connectorctl.proxy_ca import confdir_or_default, read_proxy_ca
from connectorctl.proxy_program import command_line

LOOPBACK: Final = "127.0.0.1"
START_TIMEOUT: Final = 180.0
"""Seconds for the proxy to answer. A proxy that exits earlier is reported at once."""
_POLL_INTERVAL: Final = 0.05
_ERROR: Final = "error: "
"""Start of the line that a proxy with a wrong configuration writes."""
_LOG_TAIL: Final = 2000
"""Characters of the log in the message about a proxy that did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalProxy:
    """A proxy that this process started. `log` is the file with its output."""

    process: "subprocess.Popen[bytes]"
    port: int
    confdir: Path | None
    log: Path

    def wait_until_usable(self, key: ObjectKey, token: str) -> str:
        """Wait until the proxy serves the Connector, and return the proxy's URL.

        Raises ParseError with the proxy's sentence if it refuses, and with the end of its log if it does not start. The
        TLS certificate is verified, so that the token does not reach another program on that port.
        """
        self._wait(self._is_listening)
        context = proxy_client.make_context(read_proxy_ca(self.confdir))
        headers = {"Authorization": proxy_client.basic_credentials(str(key), token)}
        self._wait(lambda: self._is_usable(context, headers))
        return f"http://{LOOPBACK}:{self.port}"

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ParseError("the proxy did not start", self._log_tail())
            supervision.pause(_POLL_INTERVAL)

    def _is_listening(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=proxy_client.TIMEOUT):
                return True
        except ConnectionRefusedError:
            return False

    def _is_usable(self, context: ssl.SSLContext, headers: dict[str, str]) -> bool:
        try:
            answer = proxy_client.get_page(LOOPBACK, self.port, "/kubeconfig", context=context, headers=headers)
        except ssl.SSLCertVerificationError as error:
            raise ParseError("", f"another program answers at port {self.port}: {error.verify_message}") from None
        except (OSError, http.client.HTTPException):  # mitmproxy listens before it loads the addons
            return False
        if answer.retry_after is None and answer.status != HTTPStatus.OK:
            raise ParseError("", answer.message)
        return answer.status == HTTPStatus.OK

    def _log_tail(self) -> str:
        """Return the proxy's error, or else the end of its log."""
        text = self.log.read_text(errors="replace")
        error = next((line for line in text.splitlines() if line.startswith(_ERROR)), None)
        return error.removeprefix(_ERROR) if error is not None else text[-_LOG_TAIL:].strip()


@contextlib.contextmanager
def start_local_proxy(folder: Path, *, confdir: Path | None, log: Path) -> Iterator[LocalProxy]:
    """Start a proxy on `folder`, and stop it at the end."""
    # mitmproxy creates its CA before it listens only if confdir is set. Otherwise, it listens first.
    keys = confdir_or_default(confdir)
    with reserved_port() as port:
        words = command_line("mitmdump", source=str(folder), listen=f"{LOOPBACK}:{port}", confdir=keys)
        with open_private_log(log) as stream:
            options = ["--set", "connector_admin=", "--set", "connector_sessions="]
            process = supervision.start_helper([*words, *options], stream)
        try:
            yield LocalProxy(process=process, port=port, confdir=confdir, log=log)
        finally:
            supervision.stop_helper(process)


def empty_log(path: Path) -> None:
    """Empty a log that no user reads, so that it does not grow. The proxy appends to it."""
    if path.exists():
        os.truncate(path, 0)


def open_private_log(path: Path) -> IO[bytes]:
    """Open a file of mode 0600 to append to."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Choose a port that no other program chooses before the proxy listens there.

    Linux lets a server listen at an address at which another socket is bound with SO_REUSEADDR and does not listen
    (socket(7)). Other systems do not, so there the port is only free when it is chosen.
    """
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind((LOOPBACK, 0))
        port: int = reservation.getsockname()[1]
        if sys.platform != "linux":
            reservation.close()
        yield port
