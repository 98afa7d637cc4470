"""Certificates for clients: for the requested host, from cached contexts."""

import base64
import contextlib
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy.certs import CertStore
from OpenSSL import SSL

from addons.net import certificates
from addons.net.certificates import Certificates
from addons.server.ca_secret import parse_authority
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.domain.status.rotation_plan import SIGNING_CA_KEY
from lab.certificates import KeyPair, make_ca, make_leaf

OWN = OwnNames(hosts=("localhost", "proxy.example"), cluster_domain="cluster.local")
TEAM_A = {"*.team-a.svc", "*.team-a.svc.cluster.local"}


def load(confdir: Path) -> CertStore:
    """Load the CA in `confdir`. If there is none, mitmproxy creates one with an RSA key."""
    return CertStore.from_store(confdir, "mitmproxy", 2048)


def create_session(
    sessions: Certificates, host: str, *, name: str = "", at_port: bool = False, source_ip: str = "10.9.9.9"
) -> SSL.Connection:
    """Create the server's side for a client that sends the server name `name`."""
    names = (sessions.names_at_port if at_port else sessions.names_in_tunnel)(host, name.lower())
    assert sessions.reserve(names, source_ip) == 0
    return sessions.create_session(names)


def certificate_in(session: SSL.Connection) -> object:
    """Return the certificate that `session` presents."""
    return session.get_app_data()[1].leaf


def handshake(
    sessions: Certificates,
    host: str,
    *,
    name: str = "",
    alpn: tuple[bytes, ...] = (),
    at_port: bool = False,
    groups: bytes = b"",
    ciphers: bytes = b"",
) -> SSL.Connection:
    """Do a handshake and return the client's side."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    if ciphers:
        context.set_tls13_ciphersuites(ciphers)
    if groups:
        assert SSL._lib.SSL_CTX_set1_curves_list(context._context, groups) == 1  # type: ignore[attr-defined]  # the binding is not in pyOpenSSL's public names
    client = SSL.Connection(context)
    if alpn:
        client.set_alpn_protos(list(alpn))
    if name:
        client.set_tlsext_host_name(name.encode())
    client.set_connect_state()
    server = create_session(sessions, host, name=name, at_port=at_port)
    exchange(client, server)
    return client


def exchange(client: SSL.Connection, server: SSL.Connection) -> None:
    """Exchange the records of a handshake, with the tickets after it."""
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))
    with contextlib.suppress(SSL.WantReadError):
        client.recv(1)


def names(client: SSL.Connection) -> set[str]:
    certificate = client.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(each.value) for each in extension.value}


@pytest.mark.parametrize("host", ["host.example", "10.0.0.1", "fd00::1"])
def test_the_certificate_is_for_the_host_and_signed_by_the_ca(tmp_path: Path, host: str) -> None:
    store = load(tmp_path)
    client = handshake(Certificates(lambda: store, OWN), host)
    assert names(client) == {host}
    certificate = client.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    certificate.verify_directly_issued_by(store.default_ca.to_cryptography())
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_a_certificate_from_the_option_certs_is_sent_unchanged(confdir: Path, tmp_path: Path) -> None:
    store, own = load(confdir), make_leaf(None, ["own.example"])
    (tmp_path / "own.pem").write_bytes(own.key_pem + own.pem)
    store.add_cert_file("own.example", tmp_path / "own.pem")
    certificate_names = handshake(Certificates(lambda: store, OWN), "own.example").get_peer_certificate(
        as_cryptography=True
    )
    assert certificate_names == own.certificate


def test_a_client_with_another_server_name_gets_one_for_both(confdir: Path) -> None:
    store = load(confdir)
    assert names(handshake(Certificates(lambda: store, OWN), "10.0.0.1", name="Kubernetes")) == {
        "10.0.0.1",
        "kubernetes",
    }


def test_http_1_1_is_chosen(confdir: Path) -> None:
    store = load(confdir)
    client = handshake(Certificates(lambda: store, OWN), "a.example", alpn=(b"h2", b"http/1.1"))
    assert client.get_alpn_proto_negotiated() == b"http/1.1"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param(b"X25519MLKEM768:X25519:P-256", "x25519", id="what costs least, whatever the client likes best"),
        pytest.param(b"P-256:P-384", "secp256r1", id="without X25519 P-256"),
        pytest.param(b"X25519MLKEM768", "X25519MLKEM768", id="who has nothing else gets ML-KEM"),
    ],
)
def test_the_key_exchange(confdir: Path, offered: bytes, chosen: str) -> None:
    store = load(confdir)
    client = handshake(Certificates(lambda: store, OWN), "host.example", groups=offered)
    assert client.get_protocol_version_name() == "TLSv1.3"
    name = SSL._lib.SSL_get0_group_name(client._ssl)  # type: ignore[attr-defined]  # pyOpenSSL has no public way
    assert SSL._ffi.string(name).decode() == chosen  # type: ignore[attr-defined]  # pyOpenSSL has no call for it


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        pytest.param(
            b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256",
            id="what costs least, whatever the client likes best",
        ),
        pytest.param(
            b"TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", id="without it AES-256"
        ),
        pytest.param(b"TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256", id="without AES ChaCha20"),
    ],
)  # fmt: skip
def test_the_cipher(confdir: Path, offered: bytes, chosen: str) -> None:
    store = load(confdir)
    client = handshake(Certificates(lambda: store, OWN), "host.example", ciphers=offered)
    assert client.get_protocol_version_name() == "TLSv1.3"
    assert client.get_cipher_name() == chosen


def test_certificates_are_cached_and_bounded(confdir: Path) -> None:
    store = load(confdir)
    sessions = Certificates(lambda: store, OWN, max_accepted=2)
    first = certificate_in(create_session(sessions, "a.example"))
    create_session(sessions, "b.example")
    assert certificate_in(create_session(sessions, "a.example")) is first
    create_session(sessions, "c.example")
    assert certificate_in(create_session(sessions, "a.example")) is first
    assert len(sessions._accepted) == 2


def test_a_new_ca_signs_all_later_certificates(confdir: Path, tmp_path: Path) -> None:
    signers = [load(confdir)]
    sessions = Certificates(lambda: signers[-1], OWN)
    before = certificate_in(create_session(sessions, "a.example"))
    other = tmp_path / "other"
    CertStore.create_store(other, "mitmproxy", 2048)
    signers.append(load(other))
    assert certificate_in(create_session(sessions, "a.example")) is not before
    assert sessions.ca_expires_at is not None


def expires_at(client: SSL.Connection) -> float:
    certificate = client.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    return certificate.not_valid_after_utc.timestamp()


@pytest.mark.parametrize(
    ("host", "name", "at_port"),
    [
        pytest.param("k8s.example", "", False, id="the host of a Connector"),
        pytest.param("unknown.example", "", False, id="an unknown host"),
        pytest.param("k8s.example", "kubernetes", False, id="another server name"),
        pytest.param("10.0.0.1", "", True, id="the proxy's own names"),
        pytest.param("10.0.0.1", "c-k8s.team-a", True, id="an alias"),
    ],
)
def test_certificates_are_renewed_after_a_third_of_their_lifetime(
    confdir: Path, host: str, name: str, *, at_port: bool
) -> None:
    store, start = load(confdir), 1_900_000_000.0
    clock = [start]
    sessions = Certificates(
        lambda: store, OWN, is_connector_host="k8s.example".__eq__, now=lambda: 0.0, wall_clock=lambda: clock[0]
    )

    def expiry() -> float:
        return expires_at(handshake(sessions, host, name=name, at_port=at_port))

    lifetime = timedelta(days=197).total_seconds()
    first = expiry()
    assert first == start + lifetime
    clock[0] = start + lifetime / 3 - 1
    assert expiry() == first
    clock[0] = start + lifetime / 3
    assert expiry() == start + lifetime / 3 + lifetime
    clock[0] = start + timedelta(days=400).total_seconds()
    assert expiry() == clock[0] + lifetime


def test_the_renewal_of_certificates_is_not_rate_limited(confdir: Path) -> None:
    store, clock = load(confdir), [1_900_000_000.0]
    sessions = Certificates(
        lambda: store, OWN, is_connector_host=lambda host: False, now=lambda: 0.0, wall_clock=lambda: clock[0]
    )
    hosts = [f"{number}.example" for number in range(int(certificates.NEW_BURST))]
    before = [certificate_in(create_session(sessions, host)) for host in hosts]
    clock[0] += timedelta(days=100).total_seconds()
    after = [certificate_in(create_session(sessions, host)) for host in hosts]
    assert not set(before) & set(after)


def test_the_earliest_expiry_is_that_of_certificates_that_clients_can_get(confdir: Path, tmp_path: Path) -> None:
    store, clock = load(confdir), [1_900_000_000.0]
    sessions = Certificates(lambda: store, OWN, wall_clock=lambda: clock[0])
    assert sessions.earliest_expires_at is None
    first = expires_at(handshake(sessions, "a.example"))
    clock[0] += timedelta(days=1).total_seconds()
    second = expires_at(handshake(sessions, "10.0.0.1", name="c-k8s.team-a", at_port=True))
    assert sessions.earliest_expires_at == first < second
    clock[0] += timedelta(days=65).total_seconds()
    assert sessions.earliest_expires_at == second
    own = make_leaf(None, ["own.example"])
    (tmp_path / "own.pem").write_bytes(own.key_pem + own.pem)
    store.add_cert_file("own.example", tmp_path / "own.pem")
    create_session(sessions, "own.example")
    assert sessions.earliest_expires_at == own.certificate.not_valid_after_utc.timestamp()


def sent_by(ca: KeyPair, *others: KeyPair) -> list[str]:
    """Return the issuers of the certificates after the leaf in the chain that a client gets."""
    pem = ca.key_pem + b"".join(each.pem for each in (ca, *others))
    authority = parse_authority({"data": {SIGNING_CA_KEY: base64.b64encode(pem).decode()}})
    client = handshake(Certificates(lambda: authority.signer, OWN), "a.example")
    chain = client.get_peer_cert_chain(as_cryptography=True) or []
    return [each.issuer.rfc4514_string() for each in chain[1:]]


def test_the_chain_contains_cross_signed_certificates_and_no_root() -> None:
    old = make_ca("old")
    crossed = make_ca("new", issuer=old)
    assert sent_by(old) == []
    assert sent_by(crossed) == ["CN=old"]
    assert sent_by(crossed, old) == ["CN=old"]


def test_without_a_ca_nothing_is_served() -> None:
    sessions = Certificates(lambda: None, OWN)
    assert (sessions.is_ready, sessions.ca_expires_at) == (False, None)
    with pytest.raises(RuntimeError, match="the CA is not available"):
        create_session(sessions, "a.example")


def exhaust(sessions: Certificates, source_ip: str) -> None:
    """Use up the new certificates of one client address."""
    while sessions.reserve(("c-invented.team-a",), source_ip) == 0:
        pass


@pytest.mark.parametrize(
    ("host", "name", "at_port", "is_limited"),
    [
        pytest.param("k8s.example", "", False, False, id="the host of a Connector"),
        pytest.param("unknown.example", "", False, True, id="an unknown host"),
        pytest.param("k8s.example", "kubernetes", False, True, id="another server name"),
        pytest.param("10.0.0.1", "", True, False, id="the proxy's own names"),
        pytest.param("10.0.0.1", "evil.example", True, False, id="a foreign name at the port"),
        pytest.param("10.0.0.1", "c-k8s.team-a", True, True, id="a short alias"),
        pytest.param("10.0.0.1", "c-k8s.team-a.svc", True, True, id="an alias"),
    ],
)
def test_new_certificates_for_names_that_clients_can_invent_are_limited_by_address(
    confdir: Path, host: str, name: str, *, at_port: bool, is_limited: bool
) -> None:
    store = load(confdir)
    sessions = Certificates(lambda: store, OWN, is_connector_host="k8s.example".__eq__, now=lambda: 0.0)
    exhaust(sessions, "10.1.1.1")
    certificate_names = (sessions.names_at_port if at_port else sessions.names_in_tunnel)(host, name)
    assert (sessions.reserve(certificate_names, "10.1.1.1") != 0) is is_limited
    assert sessions.reserve(certificate_names, "10.1.1.2") == 0
    sessions.create_session(certificate_names)
    assert sessions.reserve(certificate_names, "10.1.1.1") == 0


def test_above_the_limit_a_client_waits_and_then_is_refused(confdir: Path) -> None:
    store, clock = load(confdir), [0.0]
    sessions = Certificates(lambda: store, OWN, now=lambda: clock[0])
    results = [sessions.reserve((f"c-{number}.team-a",), "10.1.1.1") for number in range(300)]
    served = int(certificates.NEW_BURST)
    waiting = int(certificates.NEW_RATE * certificates.MAX_WAIT)
    assert results[:served] == [0.0] * served
    assert results[served : served + waiting] == pytest.approx(
        [number / certificates.NEW_RATE for number in range(1, waiting + 1)]
    )
    assert results[served + waiting :] == [None] * (300 - served - waiting)
    assert sessions.refusal_count == 300 - served - waiting
    clock[0] = certificates.MAX_WAIT + 1 / certificates.NEW_RATE
    assert sessions.reserve(("c-k8s.team-a",), "10.1.1.1") == 0


def test_certificates_of_strangers_do_not_evict_those_of_accepted_callers(confdir: Path) -> None:
    store = load(confdir)
    sessions = Certificates(lambda: store, OWN, is_connector_host=lambda _: False, max_unaccepted=2, now=lambda: 0.0)
    sessions.accept(create_session(sessions, "10.0.0.1", name="c-k8s.team-a", at_port=True))
    evicted = create_session(sessions, "10.0.0.1", name="c-slow.team-a", at_port=True)
    for number in range(5):
        create_session(sessions, "10.0.0.1", name=f"c-{number}.team-a", at_port=True, source_ip=f"10.2.2.{number}")
    assert len(sessions._unaccepted) == 2
    exhaust(sessions, "10.9.9.9")
    assert sessions.reserve(("c-k8s.team-a",), "10.9.9.9") == 0
    assert sessions.reserve(("c-slow.team-a",), "10.9.9.9") != 0
    sessions.accept(evicted)
    assert sessions.reserve(("c-slow.team-a",), "10.9.9.9") == 0
    assert len(sessions._accepted) == 2


def test_an_accepted_certificate_stays_accepted_when_it_is_renewed(confdir: Path) -> None:
    store, clock = load(confdir), [1_900_000_000.0]
    sessions = Certificates(lambda: store, OWN, wall_clock=lambda: clock[0])
    sessions.accept(create_session(sessions, "10.0.0.1", name="c-k8s.team-a", at_port=True))
    clock[0] += timedelta(days=100).total_seconds()
    create_session(sessions, "10.0.0.1", name="c-k8s.team-a", at_port=True)
    assert (len(sessions._accepted), len(sessions._unaccepted)) == (1, 0)


def test_a_certificate_of_the_previous_ca_is_not_accepted(confdir: Path, tmp_path: Path) -> None:
    signers = [load(confdir)]
    sessions = Certificates(lambda: signers[-1], OWN)
    session = create_session(sessions, "a.example")
    CertStore.create_store(tmp_path / "other", "mitmproxy", 2048)
    signers.append(load(tmp_path / "other"))
    create_session(sessions, "b.example")
    sessions.accept(session)
    assert len(sessions._accepted) == 1


@pytest.mark.parametrize(
    ("version", "options", "is_resumed"),
    [
        pytest.param(SSL.TLS1_3_VERSION, 0, True, id="TLS 1.3"),
        pytest.param(SSL.TLS1_2_VERSION, 0, True, id="TLS 1.2 with tickets"),
        pytest.param(SSL.TLS1_2_VERSION, SSL.OP_NO_TICKET, False, id="TLS 1.2 without tickets"),
    ],
)  # fmt: skip
def test_clients_resume_sessions_by_tickets_only(
    confdir: Path, version: int, options: int, *, is_resumed: bool
) -> None:
    store = load(confdir)
    sessions, context = Certificates(lambda: store, OWN), SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(version)
    context.set_options(options)
    session, reused = None, []
    for _ in range(2):
        client = SSL.Connection(context)
        if session is not None:
            client.set_session(session)
        client.set_connect_state()
        exchange(client, create_session(sessions, "a.example"))
        session = client.get_session()
        client.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        reused.append(bool(SSL._lib.SSL_session_reused(client._ssl)))  # type: ignore[attr-defined]  # pyOpenSSL has no call for it
    assert reused == [False, is_resumed]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("", {"localhost", "proxy.example", "10.0.0.1"}, id="no server name"),
        pytest.param("proxy.example", {"localhost", "proxy.example", "10.0.0.1"}, id="a name of the proxy's own"),
        pytest.param("c-k8s.team-a.svc.cluster.local", TEAM_A, id="a Connector's alias"),
        pytest.param("c-k8s.team-a.svc", TEAM_A, id="an alias without the cluster's domain"),
        pytest.param("C-k8s.team-a", {"c-k8s.team-a"}, id="a short alias, in capitals"),
        pytest.param("evil.example", {"localhost", "proxy.example", "10.0.0.1"}, id="a foreign name"),
        pytest.param("c-k8s", {"localhost", "proxy.example", "10.0.0.1"}, id="an alias without a namespace"),
    ],
)
def test_at_the_port_there_are_certificates_for_own_names_only(confdir: Path, name: str, expected: set[str]) -> None:
    store = load(confdir)
    assert names(handshake(Certificates(lambda: store, OWN), "10.0.0.1", name=name, at_port=True)) == expected


def test_all_connectors_of_a_namespace_share_a_certificate(confdir: Path) -> None:
    store = load(confdir)
    sessions = Certificates(lambda: store, OWN, now=lambda: 0.0)
    for number in range(1000):
        namespace = f"team-{number % 20}"
        client = handshake(sessions, "10.0.0.1", name=f"c-{number}.{namespace}.svc.cluster.local", at_port=True)
        assert names(client) == {f"*.{namespace}.svc", f"*.{namespace}.svc.cluster.local"}
    assert len(sessions._unaccepted) == 20
    assert sessions.refusal_count == 0


@pytest.mark.parametrize("alias", ["c-k8s.team-a.svc", "c-k8s.team-a.svc.cluster.local", "c-k8s.team-a"])
def test_clients_accept_the_certificate_for_an_alias(confdir: Path, alias: str) -> None:
    store, incoming, outgoing = load(confdir), ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cadata=store.default_ca.to_pem().decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the leaf has no Subject Key Identifier
    client = context.wrap_bio(incoming, outgoing, server_hostname=alias)
    server = create_session(Certificates(lambda: store, OWN), "10.0.0.1", name=alias, at_port=True)
    for _ in range(3):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        if outgoing.pending:
            server.bio_write(outgoing.read())
        with contextlib.suppress(SSL.WantReadError):
            server.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(server.bio_read(65536))
    assert client.version() == "TLSv1.3"
    assert client.getpeercert() is not None


def test_an_own_certificate_for_an_alias_is_sent(confdir: Path, tmp_path: Path) -> None:
    store, own = load(confdir), make_leaf(None, ["c-k8s.team-a.svc"])
    (tmp_path / "own.pem").write_bytes(own.key_pem + own.pem)
    store.add_cert_file("c-k8s.team-a.svc", tmp_path / "own.pem")
    sessions = Certificates(lambda: store, OWN)
    assert names(handshake(sessions, "10.0.0.1", name="c-k8s.team-a.svc", at_port=True)) == {"c-k8s.team-a.svc"}
    assert names(handshake(sessions, "10.0.0.1", name="c-other.team-a.svc", at_port=True)) == TEAM_A
