"""Descriptors are counted before they run out; where they do, the log does not drown in it."""

import asyncio
import errno
import resource
from typing import Any

import pytest

from addons.server import descriptors


@pytest.mark.parametrize(("limit", "kept"), [(1024, 128), (1_048_576, 256), (7, 0)])
def test_kept_connections_take_none_from_clients(limit: int, kept: int) -> None:
    assert descriptors.kept(limit) == kept


@pytest.mark.parametrize(("limit", "most"), [(1024, 416), (1_048_576, 524_128), (10, 1)])
def test_each_connection_has_two(limit: int, most: int) -> None:
    assert descriptors.connections(limit) == most


def test_all_that_the_process_may_have_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []
    limits = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: set_to.append(pair))
    assert descriptors.raise_limit() == 4096
    limits[0] = (4096, 4096)
    assert descriptors.raise_limit() == 4096
    assert set_to == [(4096, 4096)]


async def test_running_out_is_one_line_a_minute_and_other_errors_come_as_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, clock, others = asyncio.get_running_loop(), [0.0], list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: others.append(context))
    descriptors.tell_once(loop, now=lambda: clock[0])
    error = OSError(errno.EMFILE, "Too many open files")
    for second in (0.0, 1.0, descriptors.TOLD_EVERY):
        clock[0] = second
        for _ in range(100):
            loop.call_exception_handler({"message": descriptors._ACCEPT, "exception": error})
    loop.call_exception_handler({"message": "another"})
    assert caplog.messages == ["no file descriptor is left for a client: [Errno 24] Too many open files"] * 2
    assert others == [{"message": "another"}]


async def test_without_a_handler_before_the_loops_own_is_used(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    descriptors.tell_once(loop)
    loop.call_exception_handler({"message": "another"})
    assert caplog.messages == ["another"]
