"""The gauge of the event loop, on both kinds of loop."""

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
from bench.mitmproxy_scripts.loop_gauge import STALL, LoopGauge

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
BLOCKED_SECONDS = 2 * STALL


def block() -> None:
    time.sleep(BLOCKED_SECONDS)


async def in_a_callback() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(block)
    loop.call_soon(done.set_result, None)
    await done


async def in_a_timer() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(0.001, block)
    loop.call_later(0.002, done.set_result, None)
    await done


async def in_a_step_of_a_task() -> None:
    async def step() -> None:
        await asyncio.sleep(0)
        block()

    await asyncio.ensure_future(step())


async def in_a_protocol() -> None:
    near, peer = socket.socketpair()
    with peer:
        _, connection = await asyncio.get_running_loop().create_connection(TcpConnection, sock=near)
        connection.on_data = lambda _: block()
        connection.start()
        peer.sendall(b"x")
        peer.shutdown(socket.SHUT_WR)
        eof = asyncio.get_running_loop().create_future()
        connection.on_eof = lambda _: None if eof.done() else eof.set_result(None)
        await eof
        connection.transport.abort()
        await asyncio.sleep(0)


def run_with_gauge(
    loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Awaitable[None]]
) -> dict[str, Any]:
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
        pytest.param(in_a_callback, "block", id="a callback"),
        pytest.param(in_a_timer, "block", id="a timer"),
        pytest.param(in_a_step_of_a_task, "in_a_step_of_a_task.<locals>.step", id="a step of a task"),
        pytest.param(in_a_protocol, "TcpConnection.buffer_updated", id="a connection's protocol"),
    ],
)
def test_a_callback_that_blocks_the_loop_is_named(
    loop: Callable[[], asyncio.AbstractEventLoop], work: Callable[[], Awaitable[None]], name: str
) -> None:
    state = run_with_gauge(loop, work)
    count, wall, own = state["stalls"][name]
    # A busy machine may stop the other step of the task for as long.
    assert count >= 1
    assert not any("timed" in stall for stall in state["stalls"])
    assert wall >= BLOCKED_SECONDS * 1e3
    assert 0 <= own <= wall
    assert state["longest"] >= wall
    assert json.dumps(state)


@LOOPS
def test_replaced_methods_are_restored(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    instance = loop()
    before = (type(instance).call_soon, TcpConnection.buffer_updated)
    instance.close()
    run_with_gauge(loop, in_a_callback)
    assert (type(instance).call_soon, TcpConnection.buffer_updated) == before
