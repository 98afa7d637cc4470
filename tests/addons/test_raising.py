"""An exception anywhere in the data path refuses or closes: a request to refuse never reaches the target."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mitmproxy.proxy import layer
from mitmproxy.proxy.context import Context
from mitmproxy.test.tflow import tclient_conn

from addons.access.authorizer import Authorizer
from addons.access.live_connections import LiveConnections
from addons.http1.chunked import ChunkedReader
from addons.http1.framing import RequestReader, ResponseReader, _MessageReader
from addons.net.certificates import Certificates
from addons.net.dial import Dial
from addons.net.sockets import Sockets
from addons.net.tcp import TcpConnection
from addons.net.tls import RecordTracker, TlsStream
from addons.records.audit import AuditLog
from addons.records.metrics import Metrics
from addons.records.record import Record
from addons.relay.exchange import Exchange
from addons.relay.flow_requests import FlowExchange, FlowRequests, FlowResponse
from addons.relay.flows import FlowMirror
from addons.relay.gate import Gate
from addons.relay.handshake import Handshake
from addons.relay.pipe import Pipe
from addons.relay.requests import Requests
from addons.relay.response import Response
from addons.relay.routes import TunnelRoute
from addons.relay.upstream import UpstreamConnection
from addons.relay.upstream_pool import UpstreamPool
from addons.server.connections import Connections
from connector_store.domain.base.headers import Headers
from connector_store.folder.caller_tokens import TokenAccess
from connector_store.resolver import Resolver
from connector_store.trust import TrustStore
from lab.certificates import make_ca, make_leaf
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import ClientConnection, Proxy, copy_confdir, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

KEY = "team-a/k8s"
TRIES = 10
LONGEST = 10.0
"""Seconds for an exchange, ten times each of the proxy's limits. A broken exchange may never end by itself."""
CARRIERS = (
    Gate, Handshake, Requests, Pipe, TunnelRoute, Authorizer, FlowMirror, UpstreamConnection, Sockets, TcpConnection,
    Dial, TlsStream, Response, Exchange, AuditLog, Metrics, Record, FlowRequests, FlowExchange, FlowResponse,
    _MessageReader, RequestReader, ResponseReader, ChunkedReader, Headers, Certificates, TrustStore, LiveConnections,
    Connections, UpstreamPool, RecordTracker,
)  # fmt: skip
"""Classes that carry a request. TLS with the client begins in `Certificates`, TLS with the target in `TrustStore`."""
HOOKS = (
    "client_connected", "client_disconnected", "server_connect", "server_connected", "server_connect_error",
    "server_disconnected", "next_layer", "requestheaders", "request", "responseheaders", "response", "error",
)  # fmt: skip


def methods() -> Iterator[Any]:
    """Yield every method of the classes that carry a request, except those that close a connection.

    The creation of a TcpConnection is excepted, too, because no object owns the connection at that time. So is what the
    proxy calls each second for all connections: if it raises, the proxy stops.
    """
    excepted = {
        "Connections._on_closed",
        "LiveConnections.close_ended",
        "Sockets._drop_connections",
        "Sockets._on_error",
        "Sockets.abort",
        "Sockets.close",
        "Sockets.close_all",
        "Sockets.notify_closed",
        "Sockets.stop_timer",
        "TcpConnection.__init__",
        "TcpConnection.clear_callbacks",
        "TcpConnection.close",
        "TcpConnection.connection_lost",
        "TcpConnection.connection_made",
        "TcpConnection.eof_received",
    }
    for cls in CARRIERS:
        for name, value in vars(cls).items():
            special = name.startswith("__") and name != "__init__"
            where = f"{cls.__name__}.{name}"
            if inspect.isfunction(value) and not special and where not in excepted:
                yield pytest.param(cls, name, id=where)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy_and_target(
    confdir_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Proxy, FakeTarget]]:
    home = tmp_path_factory.mktemp("raising")
    folder = home / "connectors"
    folder.mkdir()
    ca = make_ca("target CA")
    async with FakeTarget(make_leaf(ca, ["127.0.0.1", "localhost"])) as target:
        named_connector = connector("named", f"https://localhost:{target.port}")
        write(folder, connector("k8s", f"https://127.0.0.1:{target.port}"), named_connector, secret(ca=ca.pem))
        confdir = copy_confdir(confdir_template, home / "conf")
        # With flows, a request passes through everything that it passes through without flows, and more.
        settings = {"connector_flows": "on", "connector_client_timeout": "1", "connector_connect_timeout": "1"}
        # A recheck during a test would call the method that raises.
        settings["connector_recheck"] = "3600"
        async with running_proxy(folder, confdir, **settings) as proxy:
            yield proxy, target


def raise_error(*_: Any, **__: Any) -> Any:
    raise RuntimeError("boom")


async def fail(*_: Any) -> Any:
    raise RuntimeError("boom")


async def run_exchange(proxy: Proxy, target: FakeTarget, credentials: str, authority: str, request: bytes) -> bytes:
    """Try an exchange and wait for its end. Return all bytes from the tunnel, or the status of a refused CONNECT."""
    stream: ClientConnection | None = None
    try:
        async with asyncio.timeout(LONGEST):
            stream, connect_response = await proxy.connect(authority, credentials)
            if connect_response.status != 200:
                return b"%d" % connect_response.status
            await proxy.start_tls(stream, authority.rpartition(":")[0])
            await stream.send(request)
            return await stream.read_to_eof()
    except (OSError, EOFError):
        return b""
    finally:
        if stream is not None:
            stream.close()


async def run_until_response(
    proxy: Proxy, target: FakeTarget, credentials: str, authority: str, request: bytes, *, status: int
) -> None:
    """Try an exchange until its response has `status`. On a busy machine, one can exceed the short timeouts."""
    responses: list[bytes] = []
    while not (responses and responses[-1].startswith(b"HTTP/1.1 %d" % status)):
        assert len(responses) < TRIES, responses
        responses.append(await run_exchange(proxy, target, credentials, authority, request))


def get(target: FakeTarget, *fields: str, host: str = "127.0.0.1") -> bytes:
    lines = ["GET /api HTTP/1.1", f"Host: {host}:{target.port}", "Connection: close", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def try_all_refusals(proxy: Proxy, target: FakeTarget) -> None:
    good, here = proxy.token(KEY), f"127.0.0.1:{target.port}"
    before = target.received
    plain, impersonating = get(target), get(target, "Impersonate-User: admin")
    await run_exchange(proxy, target, f"{KEY}:wrong", here, plain)
    await run_exchange(proxy, target, f"{KEY}:{proxy.token('team-a/other')}", here, plain)
    await run_exchange(proxy, target, f"{KEY}:x", here, plain)
    await run_exchange(proxy, target, f"{KEY}:{good}", here, impersonating)
    await run_exchange(proxy, target, f"{KEY}:{good}", here, get(target, host="h.example"))
    assert target.received == before


async def still_serves(proxy: Proxy, target: FakeTarget) -> None:
    credentials = f"{KEY}:{proxy.token(KEY)}"
    await run_until_response(proxy, target, credentials, f"127.0.0.1:{target.port}", get(target), status=200)

    def all_closed() -> bool:
        # The recheck does the same. If it raised, the whole proxy would stop.
        for each in proxy.context.live_connections._all():
            each.close_if_client_gone()
        return proxy.connection_count == 0

    await until(all_closed)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("cls", "name"), list(methods()))
async def test_an_error_in_any_method_opens_nothing(
    proxy_and_target: tuple[Proxy, FakeTarget], monkeypatch: pytest.MonkeyPatch, cls: type, name: str
) -> None:
    proxy, target = proxy_and_target
    discard_idle_connections(proxy)
    forget_certificates(proxy)
    with monkeypatch.context() as patched:
        patched.setattr(cls, name, raise_error)
        await try_all_refusals(proxy, target)
        await run_exchange(proxy, target, f"{KEY}:{proxy.token(KEY)}", f"127.0.0.1:{target.port}", get(target))
    forget_certificates(proxy)
    await still_serves(proxy, target)
    with monkeypatch.context() as patched:
        # Now there is an idle connection in the pool.
        patched.setattr(cls, name, raise_error)
        await run_exchange(proxy, target, f"{KEY}:{proxy.token(KEY)}", f"127.0.0.1:{target.port}", get(target))
    await still_serves(proxy, target)


def discard_idle_connections(proxy: Proxy) -> None:
    """Make the next request need a new connection to its target."""
    for each in tuple(proxy.context.upstream_pool._expires_at):
        proxy.context.upstream_pool._discard(each, "keepalive_expiry")


def forget_certificates(proxy: Proxy) -> None:
    """Make the next handshake create its context again, because a context keeps the functions it was created with."""
    proxy.context.certificates._signer = None


class Raiser:
    """Addon of another author whose hooks all raise."""


for _name in HOOKS:
    setattr(Raiser, _name, raise_error)


@pytest.mark.asyncio(loop_scope="module")
async def test_another_addon_that_raises_in_every_hook_opens_nothing(
    proxy_and_target: tuple[Proxy, FakeTarget],
) -> None:
    proxy, target = proxy_and_target
    discard_idle_connections(proxy)
    raiser = Raiser()
    proxy.master.addons.add(raiser)
    try:
        await try_all_refusals(proxy, target)
        credentials = f"{KEY}:{proxy.token(KEY)}"
        await run_until_response(proxy, target, credentials, f"127.0.0.1:{target.port}", get(target), status=500)
    finally:
        proxy.master.addons.remove(raiser)
    await still_serves(proxy, target)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_check_that_raises_refuses(
    proxy_and_target: tuple[Proxy, FakeTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, target = proxy_and_target
    authority = f"127.0.0.1:{target.port}"
    inside = get(target, f"Authorization: Bearer {proxy.token(KEY)}")
    with monkeypatch.context() as patched:
        patched.setattr(TokenAccess, "check_cached", lambda *_: None)
        patched.setattr(TokenAccess, "check", raise_error)
        for _ in range(TRIES):
            with suppress(OSError, EOFError):
                stream, connect_response = await proxy.connect(authority, f"{KEY}:{proxy.token(KEY)}")
                break
        assert (connect_response.status, connect_response.headers["retry-after"]) == (503, "1")
        stream.close()
        await run_until_response(proxy, target, f"{KEY}:x", authority, inside, status=503)
    await still_serves(proxy, target)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_name_that_does_not_resolve_is_not_connected_to(
    proxy_and_target: tuple[Proxy, FakeTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, target = proxy_and_target
    key, authority, inside = "team-a/named", f"localhost:{target.port}", get(target, host="localhost")
    with monkeypatch.context() as patched:
        patched.setattr(Resolver, "resolve", fail)
        await run_until_response(proxy, target, f"{key}:{proxy.token(key)}", authority, inside, status=502)
    await run_until_response(proxy, target, f"{key}:{proxy.token(key)}", authority, inside, status=200)


@pytest.mark.asyncio(loop_scope="module")
async def test_without_the_gate_nothing_is_served(proxy_and_target: tuple[Proxy, FakeTarget]) -> None:
    proxy, _ = proxy_and_target
    keeper = proxy.master.addons.get("connections")
    assert keeper is not None
    data = layer.NextLayer(Context(tclient_conn(), proxy.master.options))
    keeper.next_layer(data)
    assert type(data.layer).__name__ == "ClosingLayer"
