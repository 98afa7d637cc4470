"""Responses to the first head of a client, over real sockets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.certificates import KeyPair
from tests.fakes.manifests import connector, write
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

KEY = "team-a/k8s"


@pytest.mark.parametrize(
    "credentials",
    [
        pytest.param(None, id="none"),
        pytest.param(b"", id="an empty header"),
        pytest.param(b"Basic", id="no value"),
        pytest.param(b"Bearer abc", id="another scheme"),
        pytest.param(b"Basic !!!", id="no base64"),
        pytest.param("team-a/k8s", id="no colon"),
        pytest.param("k8s:token", id="no slash"),
        pytest.param("a/b/c:token", id="two slashes"),
        pytest.param("team-a/k8s:to\x01ken", id="a control character"),
        pytest.param("team-a/k8s:" + "a" * 20000, id="20 kB long"),
        pytest.param("team-a/k8s:wrong", id="an invalid token"),
        pytest.param("team-a/unknown:wrong", id="an invalid token for an unknown Connector"),
    ],
)
async def test_a_connect_without_valid_credentials_gets_407(
    proxy: Proxy, target: FakeTarget, credentials: str | bytes | None
) -> None:
    client, response = await proxy.connect(f"127.0.0.1:{target.port}", credentials)
    assert response.status == 407
    assert response.headers["proxy-authenticate"] == 'Basic realm="connectors"'
    assert await client.read_to_eof() == b""
    assert target.connections == []


async def test_an_expired_token_and_one_of_another_audience_get_407(proxy: Proxy, target: FakeTarget) -> None:
    for token in (proxy.token(KEY, ttl=1, ago=100), proxy.token(KEY, audience="other")):
        client, response = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{token}")
        assert response.status == 407
        await client.read_to_eof()


async def test_an_unknown_connector_and_a_forbidden_one_get_the_same_response(proxy: Proxy, target: FakeTarget) -> None:
    authority = f"127.0.0.1:{target.port}"
    absent = "team-a/absent"
    first, unknown = await proxy.connect(authority, f"{absent}:{proxy.token(absent)}")
    second, foreign = await proxy.connect(authority, f"{KEY}:{proxy.token('team-a/k9s')}")
    assert (unknown.status, foreign.status) == (403, 403)
    assert unknown.phrase.replace("absent", "NAME") == foreign.phrase.replace("k8s", "NAME")
    for client in (first, second):
        await client.read_to_eof()


@pytest.mark.parametrize("authority", ["127.0.0.2:1", "other.example:6443", "127.0.0.1:1"])
async def test_another_address_gets_403_with_the_right_one(proxy: Proxy, target: FakeTarget, authority: str) -> None:
    client, response = await proxy.connect(authority, f"{KEY}:{proxy.token(KEY)}")
    assert response.status == 403
    assert f"127.0.0.1:{target.port}" in response.phrase
    await client.read_to_eof()


async def test_a_connector_without_its_secret_gets_503_with_its_name(
    proxy: Proxy, target: FakeTarget, target_ca: KeyPair
) -> None:
    broken = connector("broken", f"https://127.0.0.1:{target.port}", secret="missing")
    write(proxy.folder, broken, file="broken.yaml")
    key = "team-a/broken"
    await until(lambda: any(connector.key.name == "broken" for connector in proxy.context.store.connectors()))
    client, response = await proxy.connect(f"127.0.0.1:{target.port}", f"{key}:{proxy.token(key)}")
    assert response.status == 503
    assert 'secrets "missing" not found' in response.phrase
    await client.read_to_eof()


async def test_a_denied_ip_address_gets_503_with_the_address(folder: Path, confdir: Path, target: FakeTarget) -> None:
    async with running_proxy(folder, confdir, connector_targets_deny="127.0.0.0/8") as proxy:
        client, response = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
        assert response.status == 503
        assert "127.0.0.1" in response.phrase
        await client.read_to_eof()
    assert target.connections == []


async def test_with_password_x_every_well_formed_connect_opens(proxy: Proxy) -> None:
    client, response = await proxy.connect("any.example:1", "team-a/unknown:x")
    assert response.status == 200
    client.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 403, id="absolute form"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 403, id="asterisk form"),
        pytest.param(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n", 404, id="an unknown page"),
        pytest.param(b"GET /kubeconfig HTTP/1.1\r\nHost: a\r\n\r\n", 401, id="a kubeconfig without credentials"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", 400, id="HTTP/1.0"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", 400, id="bare LF"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"b" * 70000, 431, id="an endless header"),
    ],
)
async def test_other_requests_get_a_response_and_are_closed(proxy: Proxy, request_bytes: bytes, status: int) -> None:
    client = await proxy.open()
    await client.send(request_bytes)
    response = await client.read_response()
    assert response.status == status
    assert await client.read_to_eof() == b""


async def test_the_proxy_serves_its_ca(proxy: Proxy) -> None:
    client = await proxy.open()
    await client.send(b"GET /ca.crt HTTP/1.1\r\nHost: a\r\n\r\n")
    response = await client.read_response()
    assert response.status == 200
    assert response.body.strip() == (proxy.confdir / "mitmproxy-ca-cert.pem").read_bytes().strip()
    await client.read_to_eof()


async def test_a_connect_may_come_byte_by_byte_and_with_the_client_hello_at_once(
    proxy: Proxy, target: FakeTarget
) -> None:
    client = await proxy.open()
    for byte in b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n":
        await client.send(bytes([byte]))
    assert (await client.read_response()).status == 407
    await client.read_to_eof()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing at all"),
        pytest.param(b"CONNECT 127.0.0.1:1 HT", id="half a head"),
    ],
)
async def test_a_silent_client_times_out(folder: Path, confdir: Path, data: bytes) -> None:
    async with running_proxy(folder, confdir, connector_client_timeout="0.3") as proxy:
        client = await proxy.open()
        await client.send(data)
        assert await client.read_to_eof() == b""
        await until(lambda: proxy.connection_count == 0)


async def test_the_connections_of_a_caller_are_limited(folder: Path, confdir: Path, target: FakeTarget) -> None:
    async with running_proxy(folder, confdir, connector_max_connections="1") as proxy:
        authority, credentials = f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}"
        first, _ = await proxy.connect(authority, credentials)
        second, response = await proxy.connect(authority, credentials)
        assert (response.status, response.headers["retry-after"]) == (429, "5")
        second.close()
        first.close()
        await until(lambda: proxy.connection_count == 0)
        third, response = await proxy.connect(authority, credentials)
        assert response.status == 200
        third.close()


async def test_a_connect_is_recorded(read_output: Callable[[], str], proxy: Proxy, target: FakeTarget) -> None:
    client, _ = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:wrong")
    await client.read_to_eof()
    await until(read_output)
    line = json.loads(read_output().splitlines()[0])
    assert (line["event"], line["status"], line["reason"], line["connector"]) == ("connect", 407, "token", KEY)
    assert "wrong" not in read_output()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        pytest.param(b"", "", id="nothing, as a probe of the port does"),
        pytest.param(b"CONNECT 127.0", "closed before CONNECT and TLS were whole", id="half a CONNECT"),
        pytest.param(b"tunnel", "closed before CONNECT and TLS were whole", id="CONNECT alone"),
        pytest.param(b"tunnel\x16\x03\x01\x02\x00\x01", "closed before CONNECT and TLS were whole", id="half a hello"),
        pytest.param(b"tunnelgarbage, no TLS", "TLS", id="plaintext instead of TLS"),
        pytest.param(b"tls", "", id="a tunnel without a request"),
        pytest.param(b"tlsGET /api HT", "closed the connection in the middle of a head", id="half a request"),
    ],
)
async def test_a_truncated_beginning_is_one_debug_line(
    proxy: Proxy, target: FakeTarget, caplog: pytest.LogCaptureFixture, data: bytes, line: str
) -> None:
    caplog.set_level("DEBUG", "addons")
    authority, credentials = f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}"
    if data.startswith(b"tls"):
        client, data = await proxy.tunnel(authority, credentials), data[3:]
    elif data.startswith(b"tunnel"):
        (client, _), data = await proxy.connect(authority, credentials), data[6:]
    else:
        client = await proxy.open()
        await until(lambda: proxy.connection_count == 1)
    await client.send(data)
    client.writer.close()
    await until(lambda: proxy.connection_count == 0)
    lines = [record for record in caplog.records if record.name.startswith("addons.relay")]
    assert len(lines) == bool(line)
    assert line in "".join(record.getMessage() for record in lines)
    # Unauthenticated clients can cause any number of them.
    assert all(record.levelname == "DEBUG" for record in lines)
