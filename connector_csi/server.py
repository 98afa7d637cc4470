"""gRPC servers on unix sockets that only root can connect to."""

import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final

import grpc.aio

MAX_SOCKET_PATH: Final = 107
"""Maximum length of a socket path in bytes (unix(7))."""
MAX_CALLS: Final = 500
"""Maximum number of calls at the same time. kubelet tries again after RESOURCE_EXHAUSTED."""
STOP_GRACE: Final = 10.0
"""Seconds that running calls have when the server stops."""


@asynccontextmanager
async def serve(path: Path, *add_services: Callable[[grpc.aio.Server], None]) -> AsyncIterator[None]:
    """Serve on `path` with these services as long as the context lasts, then remove the socket.

    The server replaces the socket of another driver. A replaced driver does not remove the new socket when it stops.
    Raises OSError if `path` exists and is not a socket.
    """
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        raise OSError(f"{path} is longer than {MAX_SOCKET_PATH} bytes, which is the most for a socket")
    path.parent.mkdir(parents=True, exist_ok=True)
    _socket_inode(path)
    server = grpc.aio.server(maximum_concurrent_rpcs=MAX_CALLS)
    for add_service in add_services:
        add_service(server)
    # gRPC removes the path that it was given when it stops, even if another server owns it by then. So it gets a unique
    # name, no longer than any name that callers pass. kubelet ignores names that begin with a dot.
    own_path = path.with_name(f".{token_hex(3)}")
    server.add_insecure_port(f"unix:{own_path}")
    await server.start()
    own_path.chmod(0o600)
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


def _socket_inode(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a socket, or None if nothing is there."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(f"{path} is there and is not a socket; remove it")
    return status.st_dev, status.st_ino
