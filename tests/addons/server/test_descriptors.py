"""Descriptors are counted before they run out; where they do, the log does not drown in it."""

import asyncio
import errno
import os
import resource
from typing import Any

import pytest

from addons.server import descriptors
from tests.fakes.waiting import until


@pytest.mark.parametrize(("limit", "kept"), [(1024, 128), (1_048_576, 256), (7, 0)])
def test_idle_upstream_connections_leave_descriptors_for_clients(limit: int, kept: int) -> None:
    assert descriptors.max_idle_upstreams(limit) == kept


@pytest.mark.parametrize(("limit", "most"), [(1024, 416), (1_048_576, 524_128), (10, 1)])
def test_each_connection_needs_two_descriptors(limit: int, most: int) -> None:
    assert descriptors.max_connections(limit) == most


def test_the_soft_limit_is_raised_to_the_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []
    limits = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: set_to.append(pair))
    assert descriptors.raise_limit() == 4096
    limits[0] = (4096, 4096)
    assert descriptors.raise_limit() == 4096
    assert set_to == [(4096, 4096)]


async def test_asyncios_accept_errors_are_suppressed_and_other_errors_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, others = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: others.append(context))
    descriptors.silence_accept_errors(loop)
    loop.call_exception_handler({"message": descriptors._ACCEPT_ERROR, "exception": OSError(errno.EMFILE, "")})
    loop.call_exception_handler({"message": "another"})
    assert caplog.messages == []
    assert others == [{"message": "another"}]


async def test_without_a_previous_handler_the_default_handler_is_used(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    descriptors.silence_accept_errors(loop)
    loop.call_exception_handler({"message": "another"})
    assert caplog.messages == ["another"]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        pytest.param(errno.EMFILE, 2, id="the process has none left"),
        pytest.param(errno.ENFILE, 2, id="the machine has none left"),
        pytest.param(errno.EACCES, 0, id="something else is wrong"),
        pytest.param(None, 0, id="there are some"),
    ],
)
async def test_exhaustion_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int | None, told: int
) -> None:
    clock, looked = [0.0], [0]
    given = os.open

    def opened(path: str, flags: int) -> int:
        looked[0] += 1
        if number is not None:
            raise OSError(number, "none")
        return given(path, flags)

    monkeypatch.setattr(os, "open", opened)
    telling = asyncio.ensure_future(descriptors.log_exhaustion(now=lambda: clock[0], interval=0))
    for second in (0.0, 1.0, descriptors.LOG_INTERVAL):
        clock[0], looked[0] = second, 0
        await until(lambda: looked[0] > 3)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    monkeypatch.undo()
    assert caplog.messages == [f"no file descriptor is left for a client: [Errno {number}] none"] * told
