"""Sockets: private, replaced if stale, removed at the end."""

import os
import socket
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest

from connector_csi.server import MAX_SOCKET_PATH, serve


async def test_only_the_owner_can_connect_and_the_socket_is_removed(sockets: Path) -> None:
    path = sockets / "sub" / "csi.sock"
    async with serve(path), grpc.aio.insecure_channel(f"unix://{path}") as channel:
        await channel.channel_ready()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_the_socket_of_a_killed_driver_is_replaced(sockets: Path) -> None:
    path = sockets / "csi.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    async with serve(path), grpc.aio.insecure_channel(f"unix://{path}") as channel:
        await channel.channel_ready()


async def test_a_replaced_driver_leaves_the_new_socket(sockets: Path) -> None:
    path = sockets / "csi.sock"
    async with AsyncExitStack() as old:
        await old.enter_async_context(serve(path))
        async with serve(path):
            await old.aclose()
            async with grpc.aio.insecure_channel(f"unix://{path}") as channel:
                await channel.channel_ready()
    assert os.listdir(sockets) == []  # noqa: PTH208 - a coroutine may not iterate a Path


async def test_another_file_is_not_removed(sockets: Path) -> None:
    path = sockets / "csi.sock"
    path.touch()
    with pytest.raises(OSError, match="not a socket; remove it"):
        async with serve(path):
            pass
    assert path.exists()


async def test_a_path_may_be_as_long_as_a_socket_allows(sockets: Path) -> None:
    folder = sockets / ("a" * (MAX_SOCKET_PATH - len(f"{sockets}//csi.sock")))
    path = folder / "csi.sock"
    assert len(str(path)) == MAX_SOCKET_PATH
    async with serve(path), grpc.aio.insecure_channel(f"unix://{path}") as channel:
        await channel.channel_ready()


async def test_a_path_that_is_too_long_is_reported(sockets: Path) -> None:
    with pytest.raises(OSError, match="longer than 107 bytes"):
        async with serve(sockets / ("a" * 108)):
            pass
