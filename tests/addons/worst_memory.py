"""Worst case of unauthenticated clients and slow readers in one proxy, in a network with small kernel buffers.

`python -m tests.addons.worst_memory HOME` prints a JSON object: `before` and `peak` resident memory in kB, the
number of unauthenticated clients (`strangers`), and the number of readers.
"""

import asyncio
import contextlib
import itertools
import json
import resource
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from addons.net.backlog import MAX_BYTES
from addons.relay.gate import MAX_FIRST_HEAD
from addons.relay.handshake import MAX_HANDSHAKE
from connector_store.domain.base.names import ObjectKey
from lab.certificates import make_ca, make_leaf
from tests.cluster.proxy.running_proxy import RunningProxy
from tests.fakes.manifests import connector, secret
from tests.fakes.proxy import ClientConnection
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

STRANGERS = 1000
"""Value of `connector_max_unauthenticated`. One address gets a fifth."""
ADDRESSES = 5
OF_A_CALLER = 900
"""Number of connections, a little less than `connector_max_connections`."""
AT_ONCE = 50
PIECE = b"x" * 65536
BODY = 64 * len(PIECE)
ENOUGH = f"more than {MAX_BYTES} bytes wait for slow readers"
PATIENCE = 300.0


def peak(proxy: RunningProxy) -> int:
    """Return the peak of the proxy's resident memory in kB."""
    status = Path(f"/proc/{proxy.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


async def pour(conversation: TargetConnection) -> None:
    await conversation.read_head()
    await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY)
    for _ in range(BODY // len(PIECE)):
        await conversation.send(PIECE)


@contextlib.asynccontextmanager
async def opened(proxy: RunningProxy, source: str) -> AsyncIterator[ClientConnection]:
    stream = ClientConnection(*await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=(source, 0)))
    try:
        yield stream
    finally:
        stream.close()


async def stranger(stack: contextlib.AsyncExitStack, proxy: RunningProxy, number: int) -> None:
    """Send most of a first head (half of the clients) or of a handshake in a tunnel without a token (the others)."""

    stream = await stack.enter_async_context(opened(proxy, f"127.0.0.{2 + number % ADDRESSES}"))
    if number % 2:
        start = b"CONNECT a.example:1 HTTP/1.1\r\nA: "
        await stream.send(start + b"a" * (MAX_FIRST_HEAD - len(start) - 1))
        return
    await stream.send(
        b"CONNECT a.example:1 HTTP/1.1\r\nProxy-Authorization: Basic dGVhbS1hL2s4czp4\r\n\r\n"  # team-a/k8s:x
    )
    assert (await stream.read_head())[0] == 200
    record = b"\x16\x03\x01\x40\x00" + b"\x01\x01\x00\x00\x03\x03" + bytes(16384 - 6)
    more = b"\x16\x03\x01\x40\x00" + bytes(16384)
    await stream.send((record + more)[: MAX_HANDSHAKE - 1])


async def reader(stack: contextlib.AsyncExitStack, proxy: RunningProxy, name: str, token: str) -> None:
    """Request a download in TLS and do not read it."""
    stream = await stack.enter_async_context(opened(proxy, "127.0.0.1"))
    await stream.writer.start_tls(
        ssl.create_default_context(cadata=proxy.ca_pem().decode()), server_hostname="localhost"
    )
    lines = [f"GET /connectors/team-a/{name}/api HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"]
    await stream.send("\r\n".join([*lines, "", ""]).encode())
    await stream.read_head()
    transport: Any = stream.writer.transport
    transport.set_read_buffer_limits(high=1)
    transport.pause_reading()


async def hold(proxy: RunningProxy, target: FakeTarget) -> dict[str, int]:
    before = proxy.resident()
    async with contextlib.AsyncExitStack() as stack:
        readers = 0
        while ENOUGH not in proxy.log.read_text():
            name = f"c{readers // OF_A_CALLER}"
            token = proxy.token(ObjectKey("team-a", name))
            await asyncio.gather(*(reader(stack, proxy, name, token) for _ in range(AT_ONCE)))
            readers += AT_ONCE
        for numbers in itertools.batched(range(STRANGERS), AT_ONCE):
            await asyncio.gather(*(stranger(stack, proxy, each) for each in numbers))
        await until(lambda: f"connector_unauthenticated_connections {STRANGERS}.0" in proxy.admin("/metrics")[1])
        return {"before": before, "peak": peak(proxy), "strangers": STRANGERS, "readers": readers}


async def main(home: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ca = make_ca("target CA")
    async with FakeTarget(make_leaf(ca, ["127.0.0.1"]), pour) as target:
        proxy = RunningProxy(home / "proxy", options={"connector_client_timeout": f"{PATIENCE:.0f}"})
        named = [connector(f"c{number}", f"https://127.0.0.1:{target.port}") for number in range(9)]
        proxy.write("k8s.yaml", *named, secret(ca=ca.pem))
        with proxy:
            sys.stdout.write(json.dumps(await hold(proxy, target)) + "\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
