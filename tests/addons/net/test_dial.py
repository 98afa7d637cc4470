"""Connecting to a target: each address gets a share of the timeout. Some tests use fake sockets."""

import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.connection import Connection
from OpenSSL import SSL

from addons.net.connect import TargetServer
from addons.net.dial import Dial
from addons.net.stage import TimerExpired, TimerKind
from addons.net.tls import TlsStream
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Address
from connector_store.domain.objects.models import Target as Usable
from connector_store.resolver import ResolvedAddresses, Resolver
from connector_store.trust import TrustStore
from lab.certificates import KeyPair, make_leaf
from lab.ports import Port
from tests.fakes.manifests import connector, secret, write
from tests.fakes.name_server import NameServer
from tests.fakes.proxy import Proxy, Response, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = "team-a/k8s"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield a port whose backlog is full, so that SYNs get no response."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for each in fillers:
            each.close()


async def ask(proxy: Proxy, authority: str) -> Response:
    client = await proxy.tunnel(authority, f"{KEY}:{proxy.token(KEY)}")
    await client.send(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % authority.encode())
    answer = await client.read_response()
    client.close()
    return answer


def point(folder: Path, address: str, ca: KeyPair) -> None:
    folder.mkdir(exist_ok=True)
    write(folder, connector("k8s", f"https://{address}"), secret(ca=ca.pem))


def closed_port() -> int:
    """Return a reserved port, so that nothing listens there while the test runs."""
    return Port().number


async def test_a_target_that_refuses_is_a_502(tmp_path: Path, confdir: Path, target_ca: KeyPair) -> None:
    address = f"127.0.0.1:{closed_port()}"
    point(tmp_path / "connectors", address, target_ca)
    async with running_proxy(tmp_path / "connectors", confdir) as proxy:
        answer = await ask(proxy, address)
    assert answer.status == 502
    assert "connection refused" in answer.json()["message"]


async def test_a_target_that_answers_no_syn_is_a_504(
    tmp_path: Path, confdir: Path, target_ca: KeyPair, silent_port: int
) -> None:
    point(tmp_path / "connectors", f"127.0.0.1:{silent_port}", target_ca)
    async with running_proxy(tmp_path / "connectors", confdir, connector_connect_timeout="0.3") as proxy:
        answer = await ask(proxy, f"127.0.0.1:{silent_port}")
        await until(lambda: proxy.connection_count == 0)
    assert answer.status == 504


async def test_a_target_that_answers_no_tls_is_a_504(tmp_path: Path, confdir: Path, target_ca: KeyPair) -> None:
    async def silent(conversation: TargetConnection) -> None:
        while await conversation.read_some():
            pass

    async with FakeTarget(None, silent) as target:
        point(tmp_path / "connectors", f"127.0.0.1:{target.port}", target_ca)
        async with running_proxy(tmp_path / "connectors", confdir, connector_connect_timeout="0.3") as proxy:
            answer = await ask(proxy, f"127.0.0.1:{target.port}")
            await until(lambda: proxy.connection_count == 0)
    assert answer.status == 504
    assert b"Bearer" not in target.received


@pytest.mark.parametrize(
    ("hosts", "expired", "words"),
    [
        pytest.param(["other.example"], False, "IP address mismatch", id="for another host"),
        pytest.param(["127.0.0.1"], True, "certificate has expired", id="expired"),
        pytest.param(None, False, "self-signed", id="of another CA"),
    ],
)
async def test_a_certificate_that_is_not_valid_gets_no_token(
    tmp_path: Path, confdir: Path, target_ca: KeyPair, hosts: list[str] | None, expired: bool, words: str
) -> None:
    certificate = make_leaf(target_ca if hosts else None, hosts or ["127.0.0.1"], expired=expired)
    async with FakeTarget(certificate) as target:
        point(tmp_path / "connectors", f"127.0.0.1:{target.port}", target_ca)
        async with running_proxy(tmp_path / "connectors", confdir) as proxy:
            answer = await ask(proxy, f"127.0.0.1:{target.port}")
    assert answer.status == 502
    assert words in answer.json()["message"]
    assert target.received == b""


async def test_a_target_that_speaks_no_tls_is_named(tmp_path: Path, confdir: Path, target_ca: KeyPair) -> None:
    async def plain(conversation: TargetConnection) -> None:
        await conversation.read_some()
        await conversation.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with FakeTarget(None, plain) as target:
        point(tmp_path / "connectors", f"127.0.0.1:{target.port}", target_ca)
        async with running_proxy(tmp_path / "connectors", confdir) as proxy:
            answer = await ask(proxy, f"127.0.0.1:{target.port}")
    assert answer.status == 502
    assert "does not speak TLS" in answer.json()["message"]


async def test_addresses_are_tried_in_turn_and_denied_ones_left_out(
    tmp_path: Path, confdir: Path, target: FakeTarget, target_ca: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(self: Resolver, host: str, port: int) -> ResolvedAddresses:
        return ResolvedAddresses(("127.0.0.9", "127.0.0.8", "127.0.0.1"))

    monkeypatch.setattr(Resolver, "resolve", resolve)
    address = f"localhost:{target.port}"
    point(tmp_path / "connectors", address, target_ca)
    denied = "127.0.0.9/32"
    async with running_proxy(tmp_path / "connectors", confdir, connector_targets_deny=denied) as proxy:
        assert (await ask(proxy, address)).status == 200
    assert len(target.connections) == 1


async def test_a_name_with_only_denied_addresses_is_a_503_that_names_them(
    tmp_path: Path, confdir: Path, target: FakeTarget, target_ca: KeyPair
) -> None:
    address = f"localhost:{target.port}"
    point(tmp_path / "connectors", address, target_ca)
    denied = "127.0.0.0/8,::1/128"
    async with running_proxy(tmp_path / "connectors", confdir, connector_targets_deny=denied) as proxy:
        answer = await ask(proxy, address)
    assert answer.status == 503
    assert "127.0.0.1" in answer.json()["message"]
    assert target.connections == []


async def test_a_name_that_does_not_resolve_is_a_502(tmp_path: Path, confdir: Path, target_ca: KeyPair) -> None:
    address = "absent.invalid:6443"
    point(tmp_path / "connectors", address, target_ca)
    async with NameServer({}) as name_server, running_proxy(tmp_path / "connectors", confdir) as proxy:
        proxy.context.resolver._servers = [name_server.address]
        answer = await ask(proxy, address)
    assert answer.status == 502
    assert "absent.invalid" in name_server.queries
    assert "cannot be resolved" in answer.json()["message"]


class FakeSockets:
    """Sockets of a client whose calls the test records and answers."""

    def __init__(self) -> None:
        self.timers: list[float] = []
        self.dials: list[tuple[TargetServer, Callable[[str], None]]] = []
        self.closed: list[Connection] = []
        self.sent: list[bytes] = []
        self.resolved: Callable[[ResolvedAddresses], None] = lambda _: None

    def start_timer(self, seconds: float, kind: TimerKind) -> int:
        self.timers.append(seconds)
        return len(self.timers)

    def stop_timer(self) -> None:
        pass

    def run_task(
        self,
        name: str,
        work: Coroutine[Any, Any, ResolvedAddresses],
        fallback: ResolvedAddresses,
        on_done: Callable[[ResolvedAddresses], None],
    ) -> None:
        work.close()
        self.resolved = on_done

    def dial(self, server: TargetServer, on_done: Callable[[str], None]) -> None:
        self.dials.append((server, on_done))

    def close(self, connection: Connection) -> None:
        self.closed.append(connection)

    def sender(self, connection: Connection) -> Callable[[bytes], None]:
        return self.sent.append

    def send_eof(self, connection: Connection) -> None:
        pass


def dial(
    sockets: FakeSockets, on_done: Callable[[TlsStream | Deny], None], host: str = "h.example", ca: bytes = b""
) -> Dial:
    """Start a dial with a timeout of ten seconds."""
    address = Address(host=host, port=6443)
    target = Usable(key=ObjectKey("a", "k"), uid="", address=address, credential=None, secret_name=None, ca=ca)
    attempt = Dial(target, sockets, Resolver(), AddressPolicy(), TrustStore(), 10.0, on_done)  # type: ignore[arg-type]  # what a dial needs of `Sockets`
    attempt.start()
    return attempt


def test_each_address_gets_a_share_of_the_timeout_and_failed_connections_are_closed() -> None:
    sockets, outcomes = FakeSockets(), list[TlsStream | Deny]()
    attempt = dial(sockets, outcomes.append)
    sockets.resolved(ResolvedAddresses(("10.0.0.1", "10.0.0.2")))
    assert sockets.timers[-1] <= 5
    attempt.handle_event(TimerExpired(TimerKind.TARGET, len(sockets.timers)))
    (first, _), (second, failed) = sockets.dials
    assert [first.address, second.address] == [("10.0.0.1", 6443), ("10.0.0.2", 6443)]
    assert sockets.closed == [first]
    failed("connection refused")
    assert sockets.closed == [first, second]
    (outcome,) = outcomes
    assert isinstance(outcome, Deny)
    assert "connection refused" in outcome.message


def test_a_cancelled_dial_does_not_connect_after_the_resolution() -> None:
    sockets, outcomes = FakeSockets(), list[TlsStream | Deny]()
    dial(sockets, outcomes.append).cancel()
    sockets.resolved(ResolvedAddresses(("10.0.0.1",)))
    assert (sockets.dials, outcomes) == ([], [])


def test_a_target_that_sends_data_before_the_request_is_refused(
    target_ca: KeyPair, target_certificate: KeyPair
) -> None:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    # In TLS 1.2, the server sends the last message of the handshake, and data may follow in the same piece.
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_privatekey(target_certificate.key)
    context.use_certificate(target_certificate.certificate)
    sockets, outcomes = FakeSockets(), list[TlsStream | Deny]()
    attempt = dial(sockets, outcomes.append, "127.0.0.1", target_ca.pem)
    ((reached, opened),) = sockets.dials
    opened("")
    server = SSL.Connection(context)
    server.set_accept_state()
    for last in (False, True):
        server.bio_write(b"".join(sockets.sent))
        sockets.sent.clear()
        if last:
            server.do_handshake()
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            with pytest.raises(SSL.WantReadError):
                server.do_handshake()
        attempt.receive(reached, memoryview(server.bio_read(65536)))
    (outcome,) = outcomes
    assert isinstance(outcome, Deny)
    assert "it answered before it was asked" in outcome.message
    assert sockets.closed == [reached]
