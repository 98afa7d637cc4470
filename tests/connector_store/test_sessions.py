"""TLS sessions with targets are resumed only for what was verified, and for a limited time."""

import contextlib

from OpenSSL import SSL

from connector_store import trust
from connector_store.trust import TrustStore
from lab.certificates import KeyPair, make_ca, make_leaf


class Remembering:
    """Server side of handshakes, with a ticket key that lasts."""

    def __init__(self, certificate: KeyPair) -> None:
        self.context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.context.use_privatekey(certificate.key)
        self.context.use_certificate(certificate.certificate)
        self.context.set_session_id(b"test")

    def serve(self, client: SSL.Connection) -> bool:
        """Run a handshake and send a response. Return True if the session was resumed."""
        server = SSL.Connection(self.context)
        server.set_accept_state()
        for _ in range(3):
            for one, other in ((client, server), (server, client)):
                with contextlib.suppress(SSL.WantReadError):
                    one.do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    other.bio_write(one.bio_read(65536))
        server.sendall(b"answer")
        client.bio_write(server.bio_read(65536))
        assert client.recv(100) == b"answer"
        return bool(SSL._lib.SSL_session_reused(client._ssl))  # type: ignore[attr-defined]  # the binding


def test_a_session_is_resumed_for_the_same_host_and_trust_within_an_hour() -> None:
    ca = make_ca("a")
    clock = [0.0]
    store, server = TrustStore(now=lambda: clock[0]), Remembering(make_leaf(ca, ["a.example", "b.example"]))

    def connect(host: str = "a.example", pem: bytes = ca.pem) -> bool:
        client = store.openssl_connection(pem, host)
        resumed = server.serve(client)
        store.store_session(client, host)
        return resumed

    assert [connect(), connect()] == [False, True]
    assert not connect("b.example")
    assert not connect(pem=ca.pem + make_ca("another").pem)
    clock[0] = trust.SESSION_LIFETIME - 1
    assert connect()
    clock[0] = trust.SESSION_LIFETIME + 1
    assert not connect()
    assert connect()


def test_the_hour_is_that_of_the_handshake_however_long_connections_last() -> None:
    ca = make_ca("a")
    clock = [0.0]
    store, server = TrustStore(now=lambda: clock[0]), Remembering(make_leaf(ca, ["a.example"]))

    def open_() -> SSL.Connection:
        client = store.openssl_connection(ca.pem, "a.example")
        server.serve(client)
        return client

    old = open_()
    clock[0] = trust.SESSION_LIFETIME + 1
    store.store_session(old, "a.example")
    assert not server.serve(store.openssl_connection(ca.pem, "a.example"))
    young = open_()
    store.store_session(young, "a.example")
    store.store_session(old, "a.example")
    assert server.serve(store.openssl_connection(ca.pem, "a.example"))


def test_sessions_are_bounded() -> None:
    ca = make_ca("a")
    store, server = TrustStore(max_sessions=1), Remembering(make_leaf(ca, ["a.example", "b.example"]))
    for host in ("a.example", "b.example"):
        client = store.openssl_connection(ca.pem, host)
        server.serve(client)
        store.store_session(client, host)
    assert not server.serve(store.openssl_connection(ca.pem, "a.example"))
    assert server.serve(store.openssl_connection(ca.pem, "b.example"))


def test_a_connection_that_has_no_session_leaves_none() -> None:
    store = TrustStore()
    store.store_session(store.openssl_connection(make_ca("a").pem, "a.example"), "a.example")
    assert not store._sessions
