"""The event loop as a soak sees it from inside, on both kinds of loop."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from addons.net.tcp import TcpConnection
from bench.inside.gauge import STALL, LoopGauge

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
HELD = 2 * STALL


def hold() -> None:
    time.sleep(HELD)


async def in_a_callback() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(hold)
    loop.call_soon(done.set_result, None)
    await done


async def in_a_timer() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(0.001, hold)
    loop.call_later(0.002, done.set_result, None)
    await done


async def in_a_step_of_a_task() -> None:
    async def step() -> None:
        await asyncio.sleep(0)
        hold()

    await asyncio.ensure_future(step())


async def in_a_protocol() -> None:
    near, peer = socket.socketpair()
    with peer:
        _, wire = await asyncio.get_running_loop().create_connection(TcpConnection, sock=near)
        wire.on_data = lambda _: hold()
        wire.start()
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        ended = asyncio.get_running_loop().create_future()
        wire.on_eof = lambda _: None if ended.done() else ended.set_result(None)
        await ended
        wire.transport.abort()
        await asyncio.sleep(0)


def gauged(loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    gauge = LoopGauge()

    async def run() -> None:
        gauge.running()
        try:
            await work()
        finally:
            gauge.done()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
        return gauge._state()


@pytest.fixture(autouse=True)
def gauge_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_GAUGE", str(tmp_path / "gauge.json"))


@LOOPS
@pytest.mark.parametrize(
    ("work", "name"),
    [
        pytest.param(in_a_callback, "hold", id="a callback"),
        pytest.param(in_a_timer, "hold", id="a timer"),
        pytest.param(in_a_step_of_a_task, "in_a_step_of_a_task.<locals>.step", id="a step of a task"),
        pytest.param(in_a_protocol, "TcpConnection.buffer_updated", id="a connection's protocol"),
    ],
)
def test_what_holds_the_loop_is_named(
    loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Awaitable[None]], name: str
) -> None:
    state = gauged(loop, work)
    count, wall, own = state["stalls"][name]
    assert count == 1
    assert not any("timed" in each for each in state["stalls"])
    assert wall >= HELD * 1e3
    assert 0 <= own <= wall
    assert state["longest"] >= wall
    assert json.dumps(state)


@LOOPS
def test_what_was_replaced_is_put_back(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    made = loop()
    before = (type(made).call_soon, TcpConnection.buffer_updated)
    made.close()
    gauged(loop, in_a_callback)
    assert (type(made).call_soon, TcpConnection.buffer_updated) == before
