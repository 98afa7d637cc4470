"""The real proxy without free file descriptors: one log line, authenticated callers continue, and it recovers."""

import asyncio
import resource
import socket
import time
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
UNAUTHENTICATED = 60
SPARE_DESCRIPTORS = 24
"""Number of free descriptors after the limit is lowered."""
FEW_DESCRIPTORS = 128
"""Limit of a process with few descriptors: enough for 32 connections, of which 16 may be unauthenticated."""
EXHAUSTED = "no file descriptor is left for a client"


def open_files(proxy: RunningProxy) -> int:
    return sum(1 for _ in Path(f"/proc/{proxy.process.pid}/fd").iterdir())


@contextmanager
def open_unauthenticated(proxy: RunningProxy, number: int) -> Iterator[list[socket.socket]]:
    """Open connections from one address that send nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), source_address=("127.0.0.2", 0)))
            for _ in range(number)
        ]


@asynccontextmanager
async def caller(proxy: RunningProxy) -> AsyncIterator[ClientConnection]:
    stream = ClientConnection(*await asyncio.open_connection("127.0.0.1", proxy.port))
    try:
        yield stream
    finally:  # also if the proxy closes it, which `status_of_new_caller` expects
        stream.close()


async def ask(proxy: RunningProxy, stream: ClientConnection) -> Response:
    """Send a request by direct access."""
    lines = ["GET /connectors/team-a/k8s/api HTTP/1.1", "Host: localhost", f"Authorization: Bearer {proxy.token(KEY)}"]
    await stream.send("\r\n".join([*lines, "", ""]).encode())
    return await stream.read_response()


async def status_of_new_caller(proxy: RunningProxy) -> int:
    """Return the status of a new caller's response, 0 if its connection is closed."""
    try:
        async with caller(proxy) as one:
            return (await ask(proxy, one)).status
    except (ConnectionError, EOFError):
        return 0


def log_lines(proxy: RunningProxy) -> list[str]:
    """Return the log lines, except audit lines and lines about the folder.

    The summary of the folder may be late, and the proxy cannot list a folder without a free descriptor.
    """
    lines = [each for each in proxy.log.read_text().splitlines() if str(proxy.manifests) not in each]
    return [each for each in lines if not each.startswith('{"time"')]


def is_one_line_a_minute(lines: list[str], text: str, started_at: float) -> bool:
    """Return True if each line contains `text`, and there is one for each minute that has begun, at most."""
    return (
        bool(lines) and all(text in each for each in lines) and len(lines) <= 1 + (time.monotonic() - started_at) / 60
    )


@pytest.fixture(params=["mitmdump", "addons"])
def running(request: pytest.FixtureRequest, target: FakeTarget, tmp_path: Path, target_ca: KeyPair) -> RunningProxy:
    """Run a test with mitmdump and with the image's program, which have different event loops."""
    new_lines = RunningProxy(tmp_path / "home", options={"connector_client_timeout": "5"}, program=request.param)
    new_lines.write("k8s.yaml", connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=target_ca.pem))
    return new_lines


async def test_without_free_descriptors_open_connections_continue_and_new_ones_follow(running: RunningProxy) -> None:
    """The limit is lowered while the proxy runs, so its own limits from the start are too high."""
    waits_for_descriptor, started_at = "-m" not in running.process.command, time.monotonic()
    with running as proxy:
        async with caller(proxy) as authenticated:
            assert (await ask(proxy, authenticated)).status == 200
            before = len(log_lines(proxy))
            limit = open_files(proxy) + SPARE_DESCRIPTORS
            resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
            with open_unauthenticated(proxy, UNAUTHENTICATED):
                await until(lambda: EXHAUSTED in proxy.log.read_text())
                assert (await ask(proxy, authenticated)).status == 200
                # The unauthenticated clients use all descriptors until they time out. Meanwhile, a later caller waits
                # with asyncio. libuv may close it.
                async with caller(proxy) as late_caller:
                    if waits_for_descriptor:
                        # Its target needs a descriptor, too, which an earlier client may have taken.
                        assert (await ask(proxy, late_caller)).status in (200, 502)
            async with asyncio.timeout(PATIENCE):
                while (status := await status_of_new_caller(proxy)) != 200:
                    assert status == 502 or not waits_for_descriptor
        new_lines = log_lines(proxy)[before:]
    assert is_one_line_a_minute(new_lines, EXHAUSTED, started_at), new_lines


async def test_with_few_descriptors_unauthenticated_clients_leave_enough_for_callers(running: RunningProxy) -> None:
    running.process.command[:0] = ["prlimit", f"--nofile={FEW_DESCRIPTORS}:{FEW_DESCRIPTORS}"]
    started_at = time.monotonic()
    with running as proxy:
        before = len(log_lines(proxy))
        with open_unauthenticated(proxy, UNAUTHENTICATED) as opened:
            async with caller(proxy) as late_caller:
                assert (await ask(proxy, late_caller)).status == 200
            closed = 0
            for each in opened:
                each.settimeout(PATIENCE)
                closed += each.recv(1) == b""
        new_lines = log_lines(proxy)[before:]
    assert closed == UNAUTHENTICATED
    assert is_one_line_a_minute(new_lines, "connections are refused", started_at), new_lines
