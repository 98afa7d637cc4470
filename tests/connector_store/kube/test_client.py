"""Requests over real sockets to a small API server, and what happens with invalid responses."""

import asyncio
import base64
import socket
import threading
import tracemalloc
from asyncio import sslproto
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest
import yaml
from aiohttp import web

from connector_store.asyncio_private import reduce_tls_buffers
from connector_store.kube import config_loader
from connector_store.kube.client import PAGE_SIZE, KubeClient
from connector_store.kube.configuration import Configuration, CredentialError
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONFIG_MAPS, SECRETS
from lab.certificates import KeyPair, make_ca, make_leaf
from lab.ports import Port
from tests.fakes.api_server import FakeApiServer, refusal


def answered_with_header(server: FakeApiServer, header: str) -> list[str]:
    """Answer each request with {}. Return a list of that header's values."""
    values: list[str] = []

    def answer(request: web.Request) -> web.Response:
        values.append(request.headers[header])
        return web.json_response({})

    server.faults.append(answer)
    return values


def config_map(name: str, **data: str) -> dict:
    return {"metadata": {"name": name, "namespace": "a"}, "data": data}


async def test_a_dry_run_stores_nothing_and_is_refused_as_the_real_one(client: KubeClient) -> None:
    await client.create(CONFIG_MAPS.path("a"), config_map("x"), dry_run=True)
    await client.create(CONFIG_MAPS.path("a"), config_map("x"))
    with pytest.raises(ApiError, match="already exists"):
        await client.create(CONFIG_MAPS.path("a"), config_map("x"), dry_run=True)


async def test_an_object_from_birth_to_death(client: KubeClient) -> None:
    path = CONFIG_MAPS.path("a", "x")
    created = await client.create(CONFIG_MAPS.path("a"), config_map("x", k="1", l="1"))
    patched = await client.patch(path, {"data": {"k": "2", "l": None}})
    assert patched["data"] == {"k": "2"}
    with pytest.raises(ApiError, match="modified") as conflict:
        await client.replace(path, created)
    assert (conflict.value.status, conflict.value.reason) == (409, "Conflict")
    assert (await client.replace(path, {**patched, "data": {"k": "3"}}))["data"] == {"k": "3"}
    assert (await client.get(path))["data"] == {"k": "3"}
    await client.delete(path, uid="uid-1")
    with pytest.raises(ApiError, match='"x" not found') as not_found:
        await client.get(path)
    assert not_found.value.status == 404


async def test_patches_carry_their_kind(client: KubeClient, server: FakeApiServer) -> None:
    kinds = answered_with_header(server, "Content-Type")
    await client.patch("/x", {"a": 1})
    await client.patch("/x", [{"op": "add", "path": "/a", "value": 1}], "json")
    assert kinds == ["application/merge-patch+json", "application/json-patch+json"]


async def test_lists_come_in_pages(client: KubeClient, server: FakeApiServer) -> None:
    for number in range(PAGE_SIZE + 1):
        await server.put(SECRETS, {"metadata": {"name": f"s{number:04}", "namespace": "a"}})
    pages = [page async for page in client.list_pages(SECRETS.path())]
    assert [len(page["items"]) for page in pages] == [PAGE_SIZE, 1]
    objects = await client.list_objects(SECRETS.path())
    assert [each["metadata"]["name"] for each in objects] == [f"s{number:04}" for number in range(PAGE_SIZE + 1)]


async def test_an_object_that_does_not_exist_is_not_found(client: KubeClient, server: FakeApiServer) -> None:
    await server.put(SECRETS, {"metadata": {"name": "x", "namespace": "a"}})
    secret = await client.find(SECRETS.path("a", "x"))
    assert secret == await client.get(SECRETS.path("a", "x"))
    assert await client.find(SECRETS.path("a", "y")) is None


async def test_a_token_request_has_audience_and_lifetime(client: KubeClient, server: FakeApiServer) -> None:
    assert await client.create_token("a", "sa", "connectors-proxy", 900) == "token-of-sa"
    assert server.requests[-1][2]["body"]["spec"] == {"audiences": ["connectors-proxy"], "expirationSeconds": 900}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(f"Bearer {jwt.encode({'iss': 'us'}, 'k' * 32)}", "us", id="a ServiceAccount's token"),
        pytest.param("Bearer secret", "", id="a token that says nothing"),
        pytest.param(None, "", id="a certificate"),
        pytest.param(CredentialError("the token file is empty"), "", id="none at the moment"),
    ],
)
async def test_the_issuer_of_our_own_token(
    server: FakeApiServer, header: str | Exception | None, expected: str
) -> None:
    async def authorization() -> str | None:
        if isinstance(header, Exception):
            raise header
        return header

    async with KubeClient(server.configuration._replace(authorization=authorization)) as client:
        assert await client.issuer() == expected


async def test_the_token_is_read_for_each_request(server: FakeApiServer) -> None:
    authorizations = answered_with_header(server, "Authorization")
    tokens = iter(["Bearer one", "Bearer two"])

    async def authorization() -> str:
        return next(tokens)

    async with KubeClient(server.configuration._replace(authorization=authorization)) as client:
        await client.get("/x")
        await client.get("/x")
    assert authorizations == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    ("answer", "status", "text", "retry_after"),
    [
        pytest.param(lambda: refusal(429, "", "busy", {"Retry-After": "7"}), 429, "busy", 7, id="a time to retry"),
        pytest.param(lambda: refusal(503, "", "later", {"Retry-After": "3600"}), 503, "later", 120, id="an hour"),
        pytest.param(lambda: refusal(429, "", "busy", {"Retry-After": "soon"}), 429, "busy", None, id="no number"),
        pytest.param(lambda: web.Response(status=502, text="<html>"), 502, "Bad Gateway", None, id="no Status"),
        pytest.param(lambda: web.Response(status=500, text="[]"), 500, "Internal Server Error", None, id="no object"),
        pytest.param(lambda: web.Response(text="<html>"), 0, "broke: JSONDecodeError", None, id="no JSON"),
        pytest.param(lambda: web.json_response([]), 0, "is not a JSON object", None, id="a list"),
    ],
)
async def test_refusals_say_what_the_server_said(client, server, answer, status, text, retry_after) -> None:
    server.faults.append(lambda request: answer())
    with pytest.raises(ApiError, match=text) as error:
        await client.get("/x")
    assert (error.value.status, error.value.retry_after) == (status, retry_after)


async def test_a_connection_that_breaks_is_an_error(client: KubeClient, server: FakeApiServer) -> None:
    def cut(request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()

    server.faults.append(cut)
    with pytest.raises(ApiError, match=r"broke: ServerDisconnectedError|ConnectionReset") as error:
        await client.get("/x")
    assert error.value.status == 0


async def test_a_request_has_its_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        async with KubeClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
            with pytest.raises(ApiError, match="in time"):
                await client.create("/x", {}, time_limit=0.05)
            with pytest.raises(ApiError, match="in time"):
                async with client.watch("/x", {}, time_limit=0.05):
                    pass


async def test_a_closed_port_is_an_error() -> None:
    port = Port().number
    async with KubeClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
        with pytest.raises(ApiError, match=f"cannot connect to the API server, 127.0.0.1:{port}: "):
            await client.get("/x")
    proxied = Configuration(host="https://192.0.2.1:6443", proxy=f"http://me:hunter2@127.0.0.1:{port}")
    async with KubeClient(proxied) as client:
        with pytest.raises(ApiError, match=f"the proxy on the way to the API server, 127.0.0.1:{port}: ") as error:
            await client.get("/x")
    assert "hunter2" not in f"{error.value!r} {error.value}"


@pytest.mark.parametrize("named_by", ["kubeconfig", "environment"])
async def test_the_password_of_a_proxy_on_the_way_is_in_no_error(
    monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with listener:
        proxy = f"http://me:hunter2@127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        configuration = Configuration(host="https://192.0.2.1:6443")
        if named_by == "kubeconfig":
            configuration = configuration._replace(proxy=proxy)
        else:
            monkeypatch.setenv("https_proxy", proxy)
            monkeypatch.setenv("no_proxy", "")
        async with KubeClient(configuration) as client:
            with pytest.raises(ApiError, match="answered 407") as error:
                await client.get("/x")
    assert "hunter2" not in f"{error.value!r} {error.value}"


async def test_requests_use_the_kubeconfigs_credential_and_not_netrc(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    async def token() -> str:
        return "Bearer of-the-kubeconfig"

    authorizations = answered_with_header(server, "Authorization")
    async with KubeClient(server.configuration._replace(authorization=token)) as client:
        await client.get("/x")
    assert authorizations == ["Bearer of-the-kubeconfig"]


async def test_a_request_uses_no_thread(client: KubeClient) -> None:
    before = set(threading.enumerate())
    await client.create(CONFIG_MAPS.path("a"), config_map("x"))
    assert set(threading.enumerate()) <= before


@asynccontextmanager
async def tls_server(leaf: KeyPair) -> AsyncIterator[str]:
    """Answer each request with {}. Return the URL."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=leaf.server_context()).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def kubeconfig(tmp_path: Path, server: str, ca: KeyPair) -> str:
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca.pem).decode()}
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


ROOT = make_ca("root")
MIDDLE = make_ca("middle", issuer=ROOT)
BARE = make_ca("bare", without_key_usage=True)


@pytest.mark.parametrize(
    ("leaf", "ca", "trusted"),
    [
        pytest.param(make_leaf(ROOT, ["127.0.0.1"]), ROOT, True, id="a CA as it should be"),
        pytest.param(make_leaf(BARE, ["127.0.0.1"]), BARE, True, id="a CA without key usage"),
        pytest.param(make_leaf(MIDDLE, ["127.0.0.1"]), MIDDLE, True, id="a pinned intermediate"),
        pytest.param(make_leaf(ROOT, ["127.0.0.1"]), BARE, False, id="another CA"),
        pytest.param(make_leaf(ROOT, ["192.0.2.1"]), ROOT, False, id="another host"),
        pytest.param(make_leaf(ROOT, ["127.0.0.1"], expired=True), ROOT, False, id="an expired certificate"),
    ],
)
async def test_trusts_what_kubectl_trusts(tmp_path: Path, leaf: KeyPair, ca: KeyPair, trusted: bool) -> None:
    async with tls_server(leaf) as url:
        loaded = await config_loader.load_configuration(kubeconfig=kubeconfig(tmp_path, url, ca))
        async with KubeClient(loaded) as client:
            if trusted:
                assert await client.get("/x") == {}
                return
            with pytest.raises(ApiError, match="certificate verify failed"):
                await client.get("/x")


async def test_an_idle_connection_uses_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", sslproto.SSLProtocol.max_size)
    reduce_tls_buffers()
    async with (
        tls_server(make_leaf(ROOT, ["127.0.0.1"])) as url,
        KubeClient(await config_loader.load_configuration(kubeconfig=kubeconfig(tmp_path, url, ROOT))) as client,
    ):
        tracemalloc.start()
        try:
            await client.get("/x")
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    buffers = [each.size for each in snapshot.traces if each.traceback[0].filename == sslproto.__file__]
    assert max(buffers) < 100 * 1024


async def test_a_new_ca_of_the_api_server_replaces_the_previous_one(tmp_path: Path) -> None:
    file, now = tmp_path / "ca.crt", 0.0
    file.write_bytes(ROOT.pem)
    async with tls_server(make_leaf(ROOT, ["127.0.0.1"])) as former, tls_server(make_leaf(BARE, ["127.0.0.1"])) as new:
        configuration = Configuration(host=new, ssl_ca_cert=str(file))
        async with KubeClient(configuration, now=lambda: now) as client:
            with pytest.raises(ApiError, match="certificate verify failed"):
                await client.get("/x")
            file.write_bytes(BARE.pem)
            assert await client.get("/x") == {}, "the file is read after a failed verification"
            file.write_bytes(b"half a certificate")
            now = 60.0
            assert await client.get("/x") == {}
        file.write_bytes(ROOT.pem)
        async with KubeClient(Configuration(host=former, ssl_ca_cert=str(file)), now=lambda: now) as client:
            assert await client.get("/x") == {}
            file.write_bytes(BARE.pem)
            assert await client.get("/x") == {}
            now = 120.0
            with pytest.raises(ApiError, match="certificate verify failed"):
                await client.get("/x")


async def test_close_leaves_no_connection_to_a_server_without_close_notify(tmp_path: Path) -> None:
    authority = make_ca()
    leaf = make_leaf(authority, ["127.0.0.1"])
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    context = leaf.server_context()

    def begin_a_watch(listening: socket.socket) -> socket.socket:
        """Open a watch and return its connection below TLS, which is not read."""
        served = context.wrap_socket(listening.accept()[0], server_side=True)
        served.recv(65536)
        served.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        return socket.socket(fileno=served.detach())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        host = f"https://127.0.0.1:{listening.getsockname()[1]}"
        serving = asyncio.get_running_loop().run_in_executor(None, begin_a_watch, listening)
        configuration = Configuration(host=host, ssl_ca_cert=str(tmp_path / "ca.crt"))
        async with KubeClient(configuration) as client:
            async with client.watch("/api/v1/pods", {}, time_limit=60) as chunks:
                assert await anext(chunks) == b"{}"
            served = await serving
        with served:
            # The event loop does not run meanwhile, so the connection was closed before.
            served.settimeout(60)
            came = [served.recv(65536), served.recv(65536)]
    assert came[-1] == b"", "the end, not only that of TLS"
