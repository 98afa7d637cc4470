"""Memory stays flat for fast, slow and blocked transfers. These are small versions of the measurements in bench/."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Identity, Refused, Unavailable
from lab.certificates import KeyPair
from lab.ports import Port
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy
from tests.fakes.manifests import connector, secret
from tests.fakes.proxy import ClientConnection, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZE = 96 * 1024 * 1024
PIECE = b"x" * 65536
GROWTH = 30_000
"""Maximum growth of a proxy in kB."""
STALL_SECONDS = 1.0
"""Seconds without progress after which a transfer counts as blocked. A slow transfer passes too, but proves less."""
KEY = ObjectKey("team-a", "k8s")


@asynccontextmanager
async def proxy_to(
    port: int, home: Path, ca: KeyPair, *, program: str = "mitmdump", options: Mapping[str, str] = {}
) -> AsyncIterator[RunningProxy]:
    proxy = RunningProxy(home, program=program, options=options)
    proxy.write("k8s.yaml", connector("k8s", f"https://127.0.0.1:{port}"), secret(ca=ca.pem))
    with proxy:
        yield proxy


async def tunnel(proxy: RunningProxy, port: int) -> ClientConnection:
    stream = ClientConnection(*await asyncio.open_connection("127.0.0.1", proxy.port, limit=65536))
    await stream.send(proxy.connect_request(KEY, f"127.0.0.1:{port}"))
    assert (await stream.read_head())[0] == 200
    context = ssl.create_default_context(cadata=proxy.ca_pem().decode())
    await stream.writer.start_tls(context, server_hostname="127.0.0.1")
    return stream


async def push(writer: asyncio.StreamWriter, on_progress: Callable[[int], None]) -> None:
    """Send SIZE bytes as fast as the peer reads them. Stop early if the peer closes."""
    with suppress(OSError):
        for number in range(SIZE // len(PIECE)):
            writer.write(PIECE)
            await writer.drain()
            on_progress(number * len(PIECE))


class Progress:
    """Progress of a transfer."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, number: int) -> None:
        self.bytes = number

    async def wait_until_stalled(self) -> None:
        """Wait until the transfer has made no progress for STILL seconds."""
        last = -1
        while last != self.bytes:
            last = self.bytes
            await asyncio.sleep(STALL_SECONDS)


@asynccontextmanager
async def sending(writer: asyncio.StreamWriter) -> AsyncIterator[Progress]:
    progress = Progress()
    task = asyncio.ensure_future(push(writer, progress))
    try:
        yield progress
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def upload(port: int, *fields: bytes) -> bytes:
    head = [b"PUT /api HTTP/1.1", b"Host: 127.0.0.1:%d" % port, b"Content-Length: %d" % SIZE, *fields]
    return b"\r\n".join(head) + b"\r\n\r\n"


async def test_a_download_to_a_client_that_does_not_read(
    target: FakeTarget, tmp_path: Path, target_ca: KeyPair
) -> None:
    progress = Progress()

    async def send_download(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        await push(conversation.writer, progress)

    target.handler = send_download
    async with proxy_to(target.port, tmp_path / "home", target_ca) as proxy:
        before = proxy.resident()
        client = await tunnel(proxy, target.port)
        await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
        await client.read_head()
        await progress.wait_until_stalled()
        assert progress.bytes < SIZE // 2
        assert proxy.resident() - before < GROWTH
        found = 0
        async with asyncio.timeout(WAIT_TIMEOUT):
            while found < SIZE and (data := await client.reader.read(1 << 20)):
                found += len(data)
        assert found == SIZE, "whoever reads late gets every byte"
        assert proxy.resident() - before < GROWTH
        client.close()


async def test_an_upload_to_a_target_that_does_not_read(target: FakeTarget, tmp_path: Path, target_ca: KeyPair) -> None:
    received_count, may_continue = 0, asyncio.Event()

    async def read_late(conversation: TargetConnection) -> None:
        nonlocal received_count
        await conversation.read_head()
        conversation.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport
        await may_continue.wait()
        conversation.writer.transport.resume_reading()  # type: ignore[attr-defined]  # ditto
        while received_count < SIZE and (data := await conversation.reader.read(1 << 20)):
            received_count += len(data)
        await conversation.send(OK)

    target.handler = read_late
    async with proxy_to(target.port, tmp_path / "home", target_ca) as proxy:
        before = proxy.resident()
        client = await tunnel(proxy, target.port)
        await client.send(upload(target.port))
        async with sending(client.writer) as progress:
            await progress.wait_until_stalled()
            assert progress.bytes < SIZE // 2
            assert proxy.resident() - before < GROWTH
            may_continue.set()
            async with asyncio.timeout(WAIT_TIMEOUT):
                assert (await client.read_response()).status == 200
        assert received_count == SIZE, "whoever reads late gets every byte"
        assert proxy.resident() - before < GROWTH
        client.close()


async def test_an_upload_that_is_refused(target: FakeTarget, tmp_path: Path, target_ca: KeyPair) -> None:
    async with proxy_to(target.port, tmp_path / "home", target_ca) as proxy:
        before = proxy.resident()
        client = await tunnel(proxy, target.port)
        await client.send(upload(target.port, b"Impersonate-User: admin"))
        async with sending(client.writer):
            assert (await client.read_response()).status == 403
            await client.read_to_eof()
        assert proxy.resident() - before < GROWTH
        assert target.connections == []


async def test_an_upload_while_the_target_accepts_and_never_answers(tmp_path: Path, target_ca: KeyPair) -> None:
    open_writers: list[asyncio.StreamWriter] = []

    async def never_respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)

    server = await asyncio.start_server(never_respond, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    async with proxy_to(port, tmp_path / "home", target_ca) as proxy:
        before = proxy.resident()
        client = await tunnel(proxy, port)
        await client.send(upload(port))
        async with sending(client.writer) as progress:
            await progress.wait_until_stalled()
            assert progress.bytes < SIZE // 2
            assert proxy.resident() - before < GROWTH
        client.close()
    server.close()
    for writer in open_writers:
        writer.transport.abort()
    await asyncio.sleep(0)


async def test_an_upload_while_its_flow_is_intercepted(target: FakeTarget, tmp_path: Path, target_ca: KeyPair) -> None:
    with ExitStack() as stack:
        web = Port()
        stack.callback(web.release)
        open_writers = {"intercept": "~all", "web_port": str(web.number), "web_open_browser": "false"}
        async with proxy_to(
            target.port, tmp_path / "home", target_ca, program="mitmweb", options=open_writers
        ) as proxy:
            before = proxy.resident()
            client = await tunnel(proxy, target.port)
            await client.send(upload(target.port))
            async with sending(client.writer) as progress:
                await progress.wait_until_stalled()
                assert progress.bytes < SIZE // 2
                assert proxy.resident() - before < GROWTH
            assert target.connections == []
            client.close()


class HangingAccess:
    """Access check that never ends."""

    revocation_count = 0

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        return None

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        await asyncio.Event().wait()
        raise AssertionError("it never ends")

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        raise NotImplementedError

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        raise NotImplementedError


async def test_an_upload_while_a_check_hangs(folder: Path, confdir: Path, target: FakeTarget) -> None:
    """The proxy runs in this process, so the test measures how much it reads from the client: nearly nothing."""
    async with running_proxy(folder, confdir) as proxy:
        connections = proxy.master.addons.get("connections")
        parts = connections.parts()
        connections.set_parts(
            replace(
                parts,
                context=replace(
                    parts.context, access_context=replace(parts.context.access_context, access=HangingAccess())
                ),
            )
        )
        client = await proxy.open()
        login = base64.b64encode(f"{KEY}:{proxy.token(str(KEY))}".encode())
        await client.send(
            b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nProxy-Authorization: Basic %b\r\n\r\n" % (target.port, login)
        )
        async with sending(client.writer) as progress:
            await progress.wait_until_stalled()
            assert progress.bytes < 32 * 1024 * 1024
        proxy.close()


SLOW = 150
SLOW_GROWTH = 400
"""Maximum growth in kB for each download that is not read."""


async def test_many_downloads_that_are_not_read(target: FakeTarget, tmp_path: Path, target_ca: KeyPair) -> None:
    started = 0

    def has_started(number: int) -> bool:
        return started > number

    async def send_download(conversation: TargetConnection) -> None:
        nonlocal started
        await conversation.read_head()
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        started += 1
        await push(conversation.writer, lambda _: None)

    target.handler = send_download
    async with proxy_to(target.port, tmp_path / "home", target_ca) as proxy:
        before = proxy.resident()
        clients = []
        for number in range(SLOW):
            client = await tunnel(proxy, target.port)
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of every stream's transport
            await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
            await until(partial(has_started, number))
            clients.append(client)
        last = 0
        while (now := proxy.resident()) > last:
            last = now
            await asyncio.sleep(STALL_SECONDS)
        assert last - before < SLOW * SLOW_GROWTH
        for client in clients:
            client.close()
