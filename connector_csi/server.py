"""gRPC servers on unix sockets, which only root may connect to."""

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final

import grpc.aio

MAX_SOCKET_PATH: Final = 107
"""Bytes (unix(7))."""
MAX_CALLS: Final = 500
"""Calls at a time; kubelet takes RESOURCE_EXHAUSTED as "later"."""
STOP_GRACE: Final = 10.0
"""Seconds that calls under way get at the end."""


@asynccontextmanager
async def serve(path: Path, *add_services: Callable[[grpc.aio.Server], None]) -> AsyncIterator[None]:
    """A server on `path` with these services, as long as the context lasts; the socket is gone afterwards.

    A socket that another driver has there is replaced, and a driver that ends after it was replaced takes nothing
    away. OSError if something else is there.
    """
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        raise OSError(f"{path} is longer than {MAX_SOCKET_PATH} bytes, which is the most for a socket")
    path.parent.mkdir(parents=True, exist_ok=True)
    _socket_inode(path)
    server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS)
    for add_service in add_services:
        add_service(server)
    # At its end gRPC removes what has the name that it was given, whose ever it is: so that is a name of this server
    # alone, and no longer than any that we are given. kubelet passes over names with a dot in front.
    own_path = path.with_name(f".{token_hex(3)}")
    server.add_insecure_port(f"unix:{own_path}")
    await server.start()
    _make_private(own_path)
    inode = _socket_inode(own_path)
    own_path.rename(path)
    try:
        yield
    finally:
        await server.stop(STOP_GRACE)
        _remove_if_same(path, inode)


def _remove_if_same(path: Path, inode: tuple[int, int] | None) -> None:
    if _socket_inode(path) == inode:
        path.unlink(missing_ok=True)


def _make_private(path: Path) -> None:
    path.chmod(0o600)


def _socket_inode(path: Path) -> tuple[int, int] | None:
    """Of a socket; None if nothing is there."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(f"{path} is there and is not a socket; remove it")
    return status.st_dev, status.st_ino
