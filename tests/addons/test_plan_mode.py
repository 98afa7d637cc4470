"""Plan mode over real sockets: what the target gets of a deletion, whose body the proxy replaces."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector_store.domain.permissions.delete_options import MAX_DELETE_OPTIONS
from lab.certificates import KeyPair
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection

PATH = "/api/v1/namespaces/n/pods/p"
OPTIONS = b'{"gracePeriodSeconds":5}'
EXPECTED = {"gracePeriodSeconds": 5, "dryRun": ["All"]}


@pytest.fixture
def folder(tmp_path: Path, target: FakeTarget, target_ca: KeyPair) -> Path:
    path = tmp_path / "connectors"
    path.mkdir()
    manifest = connector("k8s", f"https://127.0.0.1:{target.port}")
    manifest["spec"]["permissions"] = {"dryRun": True}
    write(path, manifest, secret(ca=target_ca.pem))
    return path


@pytest.fixture(params=["off", "on"], ids=["without flows", "with flows"])
async def proxy(request: pytest.FixtureRequest, folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_flows=request.param) as running:
        yield running


class ReceivedRequest:
    """Handler of a target that reads one request with a length."""

    head = b""
    body = b""

    async def __call__(self, connection: TargetConnection) -> None:
        while True:
            self.head = await connection.read_head()
            lengths = [line for line in self.head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self.body = await connection.read_exactly(int(lengths[0].partition(b":")[2])) if lengths else b""
            await connection.send(OK)


def delete(target: FakeTarget, *fields: str, method: str = "DELETE", path: str = PATH) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{target.port}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


LENGTH = f"Content-Length: {len(OPTIONS)}"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([(LENGTH, OPTIONS)], id="with the head"),
        pytest.param([(LENGTH, b""), OPTIONS], id="behind the head"),
        pytest.param([(LENGTH, OPTIONS[:3]), OPTIONS[3:9], OPTIONS[9:]], id="in three pieces"),
        pytest.param([("Transfer-Encoding: chunked", b"3\r\n" + OPTIONS[:3] + b"\r\n"),
                      b"15\r\n" + OPTIONS[3:] + b"\r\n", b"0\r\n\r\n"], id="in chunks"),
    ],
)  # fmt: skip
async def test_the_target_gets_the_options_as_a_dry_run(
    proxy: Proxy, target: FakeTarget, pieces: list[tuple[str, bytes] | bytes]
) -> None:
    received = target.handler = ReceivedRequest()
    client = await proxy.tunnel_to(target)
    for _ in range(2):
        for piece in pieces:
            await client.send(delete(target, piece[0]) + piece[1] if isinstance(piece, tuple) else piece)
        response = await client.read_response()
        assert (response.status, response.body) == (200, b"ok")
        assert "nothing was changed" in response.headers["warning"]
        assert received.head.startswith(f"DELETE {PATH}?dryRun=All HTTP/1.1\r\n".encode())
        assert json.loads(received.body) == EXPECTED
    client.close()


async def test_a_deletion_without_a_body_has_the_query_only(proxy: Proxy, target: FakeTarget) -> None:
    received = target.handler = ReceivedRequest()
    client = await proxy.tunnel_to(target)
    await client.send(delete(target, path=f"{PATH}?a=b&dryRun=x&dry%52un="))
    assert (await client.read_response()).status == 200
    assert received.head.startswith(f"DELETE {PATH}?dryRun=All&a=b HTTP/1.1\r\n".encode())
    assert b"Content-Length" not in received.head
    client.close()


async def test_other_writes_pass_with_their_body(proxy: Proxy, target: FakeTarget) -> None:
    received = target.handler = ReceivedRequest()
    client = await proxy.tunnel_to(target)
    await client.send(delete(target, LENGTH, method="PUT") + OPTIONS)
    assert (await client.read_response()).status == 200
    assert received.head.startswith(f"PUT {PATH}?dryRun=All HTTP/1.1\r\n".encode())
    assert received.body == OPTIONS
    await client.send(delete(target, method="GET"))
    response = await client.read_response()
    assert "warning" not in response.headers
    assert received.head.startswith(f"GET {PATH} HTTP/1.1\r\n".encode())
    client.close()


async def test_a_client_that_expects_it_gets_100_continue(proxy: Proxy, target: FakeTarget) -> None:
    received = target.handler = ReceivedRequest()
    client = await proxy.tunnel_to(target)
    await client.send(delete(target, LENGTH, "Expect: 100-continue"))
    assert (await client.read_head())[0] == 100
    await client.send(OPTIONS)
    assert (await client.read_response()).status == 200
    assert json.loads(received.body) == EXPECTED
    assert b"Expect" not in received.head
    client.close()


@pytest.mark.parametrize(
    ("fields", "body", "words"),
    [
        pytest.param(("Content-Length: 3",), b"a: ", "is not JSON", id="no JSON"),
        pytest.param(("Content-Length: 5", "Content-Type: application/yaml"), b"a: b\n", "is neither JSON", id="YAML"),
        pytest.param((f"Content-Length: {MAX_DELETE_OPTIONS + 9}",), b" " * (MAX_DELETE_OPTIONS + 1), "has more than",
                     id="too large"),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_read_is_refused(
    proxy: Proxy, target: FakeTarget, fields: tuple[str, ...], body: bytes, words: str
) -> None:
    client = await proxy.tunnel_to(target)
    await client.send(delete(target, *fields) + body)
    response = await client.read_response()
    assert response.status == 400
    assert words in response.json()["message"]
    assert await client.read_to_eof() == b""
    assert target.received == b""
