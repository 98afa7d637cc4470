"""Our own requests to targets: what is sent, what is read of the response, and with which identity."""

from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.objects.models import Address
from connector_store.resolver import ResolvedAddresses, Resolver
from connector_store.target_client import TargetClient, TargetError, TargetResponse
from connector_store.trust import TrustStore
from lab.certificates import make_ca, make_leaf
from lab.targets import CA, ENDLESS_RESPONSE, OK_RESPONSE, TargetServer, run_target, status_response
from tests.connector_store.test_sessions import Remembering

CLIENTS = make_ca("clients")
ADMIN = make_leaf(CLIENTS, [], name="admin")
GUEST = make_leaf(CLIENTS, [], name="guest")


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with run_target() as target:
        yield target


def client(policy: AddressPolicy | None = None) -> TargetClient:
    return TargetClient(TrustStore(), policy or AddressPolicy(), Resolver(), user_agent="us/1")


def at(server: TargetServer, host: str = "127.0.0.1", prefix: str = "") -> Address:
    return Address(host=host, port=server.port, prefix=prefix)


async def ask(server: TargetServer, *paths: str, max_body: int = 100) -> list[TargetResponse]:
    async with client().connect(at(server, prefix="/p"), CA.pem, time_limit=30) as session:
        return [await session.request("GET", each, [("X-A", "b")], max_body=max_body) for each in paths]


async def test_requests_follow_one_another_on_one_connection(server: TargetServer) -> None:
    answers = await ask(server, "/a", "/b%2F?c=%20d")
    assert [(each.status, each.body, each.is_complete) for each in answers] == [(200, b"ok", True)] * 2
    first, second = server.request_heads
    assert first.startswith(b"GET /p/a HTTP/1.1\r\n")
    assert second.startswith(b"GET /p/b%2F?c=%20d HTTP/1.1\r\n")
    assert b"X-A: b\r\n" in first
    assert b"User-Agent: us/1\r\n" in first
    assert server.connection_count == 1


async def test_a_target_that_closes_is_dialled_again(server: TargetServer) -> None:
    server.respond = lambda head: OK_RESPONSE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert [each.status for each in await ask(server, "/a", "/b")] == [200, 200]
    assert server.connection_count == 2


async def test_only_the_start_of_a_long_response_is_read(server: TargetServer) -> None:
    server.respond = lambda head: ENDLESS_RESPONSE
    (answer,) = await ask(server, "/")
    assert (len(answer.body), answer.is_complete) == (100, False)


async def test_a_body_is_sent_with_its_length_and_headers_are_found_in_lower_case(server: TargetServer) -> None:
    server.respond = lambda head: status_response(201).replace(b"\r\n\r\n", b"\r\nRetry-After: 7\r\n\r\n")
    async with client().connect(at(server), CA.pem, time_limit=30) as session:
        answer = await session.request("POST", "/", body=b"{}", max_body=10)
    assert (answer.status, answer.header(b"retry-after"), answer.header(b"x")) == (201, b"7", None)
    assert b"Content-Length: 2\r\n" in server.request_heads[0]


async def test_an_informational_response_is_skipped(server: TargetServer) -> None:
    server.respond = lambda head: b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK_RESPONSE
    assert [each.status for each in await ask(server, "/")] == [200]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", id="a head without end"),
        pytest.param(b"hello\r\n\r\n", id="no HTTP"),
    ],
)
async def test_an_invalid_response_is_an_error_that_quotes_nothing(server: TargetServer, answer: bytes) -> None:
    server.respond = lambda head: answer
    with pytest.raises(TargetError, match="broke off its answer") as caught:
        await ask(server, "/")
    assert "hello" not in str(caught.value)


async def test_after_an_address_that_refuses_the_next_one_is_tried(
    server: TargetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(self: Resolver, host: str, port: int) -> ResolvedAddresses:
        return ResolvedAddresses(("127.0.0.9", "127.0.0.1"))

    monkeypatch.setattr(Resolver, "resolve", resolve)
    with pytest.raises(TargetError, match="certificate is not valid"):
        # The second address responds. Its certificate is not for the requested name.
        async with client().connect(at(server, "localhost"), CA.pem, time_limit=30) as session:
            await session.request("GET", "/", max_body=1)


async def test_time_is_for_all_requests_together(server: TargetServer) -> None:
    server.silent = True
    with pytest.raises(TargetError, match="did not answer within 0 s"):
        async with client().connect(at(server), CA.pem, time_limit=0.2) as session:
            await session.request("GET", "/", max_body=1)


def asking() -> Remembering:
    """Run the server side of handshakes, which requests a certificate."""
    target = Remembering(make_leaf(CA, ["a.example"]))
    target.context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    return target


def test_a_session_is_resumed_by_its_own_identity_only() -> None:
    store, server = TrustStore(), asking()
    admin, guest = (ClientCertificate(each.pem, each.key_pem) for each in (ADMIN, GUEST))
    first = store.openssl_connection(CA.pem, "a.example", admin)
    assert not server.serve(first)
    store.store_session(first, "a.example")
    assert not server.serve(store.openssl_connection(CA.pem, "a.example", guest)), "another identity"
    assert server.serve(store.openssl_connection(CA.pem, "a.example", admin)), "its own"
    assert store.openssl_context(CA.pem, admin) is not store.openssl_context(CA.pem, guest)
    assert store.openssl_context(CA.pem) is not store.openssl_context(CA.pem, admin)
