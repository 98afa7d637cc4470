"""Masked Secrets over real sockets: targets that answer as no API server would, and flows."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from connector_store.domain.permissions.json_buffer import MAX_OBJECT
from lab.certificates import KeyPair
from tests.fakes.flow_watcher import add_watcher
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

CANARY = b"c4n4ry"
SECRET = b'{"kind":"Secret","metadata":{"name":"a"},"data":{"p":"c4n4ry"}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PIECE = b"c4n4ry" * 10_000


@pytest.fixture
def folder(tmp_path: Path, target: FakeTarget, target_ca: KeyPair) -> Path:
    path = tmp_path / "connectors"
    path.mkdir()
    manifest = connector("k8s", f"https://127.0.0.1:{target.port}")
    manifest["spec"]["permissions"] = {"mask": [{"resources": ["secrets"]}]}
    write(path, manifest, secret(ca=target_ca.pem))
    return path


@pytest.fixture(params=["off", "on"], ids=["without flows", "with flows"])
async def proxy(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows=request.param) as running:
        yield running


async def ask(proxy: Proxy, target: FakeTarget, path: str) -> ClientConnection:
    client = await proxy.tunnel_to(target)
    await client.send(
        f"GET /api/v1/namespaces/n/secrets{path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n"
        "Accept-Encoding: gzip\r\n\r\n".encode()
    )
    return client


def answer(*pieces: bytes, count: int = 1) -> Callable[[TargetConnection], Awaitable[None]]:
    async def handler(connection: TargetConnection) -> None:
        assert b"Accept-Encoding: identity" in await connection.read_head()
        for piece in pieces[:-1]:
            await connection.send(piece)
        for _ in range(count):
            await connection.send(pieces[-1])

    return handler


async def test_the_client_gets_the_masked_object(proxy: Proxy, target: FakeTarget) -> None:
    target.handler = answer(HEAD + b"Content-Length: %d\r\n\r\n" % len(SECRET), SECRET)
    client = await ask(proxy, target, "/a")
    response = await client.read_response()
    assert json.loads(response.body)["data"] == {"p": "bWFza2Vk"}
    client.close()


@pytest.mark.parametrize("path", ["/a", "", "?watch=1"])
async def test_an_endless_answer_ends_at_the_limit(proxy: Proxy, target: FakeTarget, path: str) -> None:
    start = HEAD + b"Content-Length: 500000000\r\n\r\n" + b'{"kind":"SecretList","items":[{"metadata":{"name":"'
    target.handler = answer(start, PIECE, count=2 * MAX_OBJECT // len(PIECE))
    client = await ask(proxy, target, path)
    received = await client.read_to_eof()
    assert CANARY not in received
    assert len(received) < 1000


async def test_an_answer_that_is_cut_off_does_not_look_complete(proxy: Proxy, target: FakeTarget) -> None:
    start = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    cut = b'{"kind":"SecretList","items":[{"metadata":{"name":"a"},"data":{"p":"c4n4ry"}},{"data":{"p":"c4n4ry'
    target.handler = answer(start, b"%x\r\n%b\r\n" % (len(cut), cut))
    client = await ask(proxy, target, "")
    received = await client.read_to_eof()
    assert b"bWFza2Vk" in received
    assert CANARY not in received
    assert not received.endswith(b"0\r\n\r\n")


async def test_a_flow_has_the_masked_body(target: FakeTarget, folder: Path, confdir: Path) -> None:
    async with running_proxy(
        folder, confdir, connector_flows="on", connector_keep_body="10000", connector_keep_secrets="true"
    ) as proxy:
        watcher = add_watcher(proxy)
        target.handler = answer(HEAD + b"X: c4n4ry\r\nContent-Length: %d\r\n\r\n" % len(SECRET), SECRET)
        client = await ask(proxy, target, "/a")
        await client.read_response()
        await until(lambda: watcher.hook_names[-1] == "response")
        client.close()
    (flow,) = {id(each): each for each in watcher.flows}.values()
    assert flow.response is not None
    assert b"bWFza2Vk" in (flow.response.raw_content or b"")
    assert CANARY not in str(flow.get_state()).encode()
