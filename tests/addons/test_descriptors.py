"""The real proxy out of file descriptors: one line of the log, no harm to those it knows, and an end to it."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from connector_store.domain.base.names import ObjectKey
from lab.certificates import KeyPair
from tests.cluster.proxy.running_proxy import RunningProxy
from tests.fakes.manifests import connector, secret
from tests.fakes.proxy import PATIENCE, ClientConnection, Response
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

KEY = ObjectKey("team-a", "k8s")
STRANGERS = 60
SPARE = 24
"""Descriptors that are left when the limit falls."""
FEW = 128
"""Descriptors that a process is given: enough for 32 connections, 16 of strangers."""
NONE_LEFT = "no file descriptor is left for a client"


def open_files(proxy: RunningProxy) -> int:
    return sum(1 for _ in Path(f"/proc/{proxy.process.pid}/fd").iterdir())


@contextmanager
def strangers(proxy: RunningProxy, number: int) -> Iterator[list[socket.socket]]:
    """Connections from one address that say nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), source_address=("127.0.0.2", 0)))
            for _ in range(number)
        ]


@asynccontextmanager
async def caller(proxy: RunningProxy) -> AsyncIterator[ClientConnection]:
    stream = ClientConnection(*await asyncio.open_connection("127.0.0.1", proxy.port))
    yield stream
    stream.close()


async def ask(proxy: RunningProxy, stream: ClientConnection) -> Response:
    """By the direct door."""
    lines = ["GET /connectors/team-a/k8s/api HTTP/1.1", "Host: localhost", f"Authorization: Bearer {proxy.token(KEY)}"]
    await stream.send("\r\n".join([*lines, "", ""]).encode())
    return await stream.read_response()


async def served(proxy: RunningProxy) -> bool:
    """False for who is closed instead."""
    try:
        async with caller(proxy) as one:
            return (await ask(proxy, one)).status == 200
    except (ConnectionError, EOFError):
        return False


def warned(proxy: RunningProxy) -> list[str]:
    """What the log says besides audit lines, and of the folder: that it is served may be said late, and without a
    descriptor it cannot be listed (what was in it is served)."""
    lines = [each for each in proxy.log.read_text().splitlines() if str(proxy.manifests) not in each]
    return [each for each in lines if not each.startswith('{"time"')]


@pytest.fixture(params=["mitmdump", "addons"])
def running(request: pytest.FixtureRequest, target: FakeTarget, tmp_path: Path, target_ca: KeyPair) -> RunningProxy:
    """By mitmdump, and by the image's program, whose event loop is another."""
    found = RunningProxy(tmp_path / "home", options={"connector_client_timeout": "2"}, program=request.param)
    found.write("k8s.yaml", connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=target_ca.pem))
    return found


async def test_where_none_is_left_those_who_are_served_go_on_and_others_follow(running: RunningProxy) -> None:
    """The limit falls while it runs, so that its own bounds, of the start, come too late."""
    waits = "-m" not in running.process.command
    with running as proxy:
        async with caller(proxy) as known:
            assert (await ask(proxy, known)).status == 200
            before = len(warned(proxy))
            most = open_files(proxy) + SPARE
            resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (most, most))
            with strangers(proxy, STRANGERS):
                await until(lambda: NONE_LEFT in proxy.log.read_text())
                assert (await ask(proxy, known)).status == 200
                # It comes behind all strangers, who hold what there is until their time is over: asyncio lets it wait,
                # libuv may close it.
                async with caller(proxy) as honest:
                    if waits:
                        assert (await ask(proxy, honest)).status == 200
            async with asyncio.timeout(PATIENCE):
                while not await served(proxy):
                    assert not waits
        found = warned(proxy)[before:]
    assert [NONE_LEFT in each for each in found] == [True], found


async def test_where_few_are_given_strangers_leave_enough_for_callers(running: RunningProxy) -> None:
    running.process.command[:0] = ["prlimit", f"--nofile={FEW}:{FEW}"]
    with running as proxy:
        before = len(warned(proxy))
        with strangers(proxy, STRANGERS) as opened:
            async with caller(proxy) as honest:
                assert (await ask(proxy, honest)).status == 200
            closed = 0
            for each in opened:
                each.settimeout(PATIENCE)
                closed += each.recv(1) == b""
        found = warned(proxy)[before:]
    assert closed == STRANGERS
    assert ["connections are refused" in each for each in found] == [True], found
