"""gRPC servers on unix sockets, which only root may connect to."""

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
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

    A socket that another driver has there is replaced, and a driver that ends after it was replaced takes nothing
    away. OSError if something else is there.
    """
    if len(str(path).encode()) > SOCKET_PATH_MAX:
        raise OSError(f"{path} is longer than {SOCKET_PATH_MAX} bytes, which is the most for a socket")
    path.parent.mkdir(parents=True, exist_ok=True)
    _inode(path)
    server = grpc.aio.server(maximum_concurrent_rpcs=CALLS_MAX)
    for add in services:
        add(server)
    # At its end gRPC removes what has the name that it was given, whose ever it is: so that is a name of this server
    # alone, and no longer than any that we are given. kubelet passes over names with a dot in front.
    own = path.with_name(f".{token_hex(3)}")
    server.add_insecure_port(f"unix:{own}")
    await server.start()
    _make_private(own)
    inode = _inode(own)
    own.rename(path)
    try:
        yield
    finally:
        await server.stop(GRACE)
        _remove_if(path, inode)


def _remove_if(path: Path, inode: tuple[int, int] | None) -> None:
    if _inode(path) == inode:
        path.unlink(missing_ok=True)


def _make_private(path: Path) -> None:
    path.chmod(0o600)


def _inode(path: Path) -> tuple[int, int] | None:
    """Of a socket; None if nothing is there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(f"{path} is there and is not a socket; remove it")
    return found.st_dev, found.st_ino
