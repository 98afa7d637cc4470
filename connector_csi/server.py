"""gRPC servers on unix sockets, which only root may connect to."""

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc.aio

SOCKET_PATH_MAX: Final = 107
"""Bytes (unix(7))."""
CALLS_MAX: Final = 500
"""Calls at a time; kubelet takes RESOURCE_EXHAUSTED as "later"."""
GRACE: Final = 10.0
"""Seconds that calls under way get at the end."""


@asynccontextmanager
async def serving(path: Path, *services: Callable[[grpc.aio.Server], None]) -> AsyncIterator[None]:
    """A server on `path` with these services, as long as the context lasts; the socket is gone afterwards.

    A socket that a killed driver left is replaced; OSError if something else is there.
    """
    if len(str(path).encode()) > SOCKET_PATH_MAX:
        raise OSError(f"{path} is longer than {SOCKET_PATH_MAX} bytes, which is the most for a socket")
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(path)
    server = grpc.aio.server(maximum_concurrent_rpcs=CALLS_MAX)
    for add in services:
        add(server)
    server.add_insecure_port(f"unix://{path}")
    await server.start()
    _make_private(path)
    try:
        yield
    finally:
        await server.stop(GRACE)
        _remove_stale(path)


def _make_private(path: Path) -> None:
    path.chmod(0o600)


def _remove_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(f"{path} is there and is not a socket; remove it")
    path.unlink()
