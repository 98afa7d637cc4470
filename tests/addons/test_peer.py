"""TLS without IO: two peers that speak to each other in memory."""

from collections.abc import Iterable

import pytest
from mitmproxy.connection import Server
from mitmproxy.proxy.commands import CloseTcpConnection, Command, SendData
from OpenSSL import SSL

from addons.peer import Peer
from connector_store.trust import TrustStore
from tests.fakes.certificates import Issued, make_leaf


def records(commands: Iterable[Command]) -> bytes:
    return b"".join(each.data for each in commands if isinstance(each, SendData))


def server(certificate: Issued) -> Peer:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_privatekey(certificate.key)
    context.use_certificate(certificate.certificate)
    connection = SSL.Connection(context)
    connection.set_accept_state()
    return Peer(Server(address=None), connection)


def client(ca: Issued, host: str = "127.0.0.1") -> Peer:
    return Peer(Server(address=None), TrustStore().openssl_connection(ca.pem, host))


def shake(one: Peer, other: Peer) -> None:
    """Until both have nothing more to say."""
    one.receive(b"")
    while data := records(one.pending()):
        other.receive(data)
        one, other = other, one


def test_two_peers_agree_and_pass_plain_text(target_ca: Issued, target_certificate: Issued) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    assert near.established
    assert far.established
    big = b"x" * 300_000
    assert far.receive(records([near.send(big)])) == big
    assert near.receive(records([far.send(b"answer")])) == b"answer"


def test_the_end_of_a_session_is_said_and_heard(target_ca: Issued, target_certificate: Issued) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    last = list(near.finish())
    assert isinstance(last[-1], CloseTcpConnection)
    assert last[-1].half_close
    assert far.receive(records(last)) == b""
    assert far.ended


@pytest.mark.parametrize(
    ("hosts", "expired", "words"),
    [
        pytest.param(["other.example"], False, "IP address mismatch", id="another host"),
        pytest.param(["127.0.0.1"], True, "certificate has expired", id="an expired one"),
    ],
)
def test_a_certificate_that_is_not_valid_is_named(
    target_ca: Issued, hosts: list[str], expired: bool, words: str
) -> None:
    near, far = client(target_ca), server(make_leaf(target_ca, hosts, expired=expired))
    with pytest.raises(ConnectionError, match=f"its certificate is not valid: {words}"):
        shake(near, far)


def test_a_certificate_of_another_ca_is_named(target_ca: Issued) -> None:
    near, far = client(target_ca), server(make_leaf(None, ["127.0.0.1"]))
    with pytest.raises(ConnectionError, match="its certificate is not valid: self-signed"):
        shake(near, far)


def test_what_is_not_tls_is_said(target_ca: Issued, target_certificate: Issued) -> None:
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        client(target_ca).receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ConnectionError, match="does not speak TLS"):
        server(target_certificate).receive(b"GET / HTTP/1.1\r\n\r\n")


def test_a_damaged_record_ends_the_session(target_ca: Issued, target_certificate: Issued) -> None:
    near, far = client(target_ca), server(target_certificate)
    shake(near, far)
    data = bytearray(records([near.send(b"hello")]))
    data[-1] ^= 1
    with pytest.raises(ConnectionError, match="TLS failed"):
        far.receive(bytes(data))


def test_before_the_handshake_an_end_is_only_a_fin(target_ca: Issued) -> None:
    assert [type(each) for each in client(target_ca).finish()] == [CloseTcpConnection]
