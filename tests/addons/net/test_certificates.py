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
from addons.net.certificates import Certificates, TooManyNamesError
from addons.server.ca_secret import parse_authority
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.domain.status.rotation_plan import SIGNING_CA_KEY
from lab.certificates import KeyPair, make_ca, make_leaf

OWN = OwnNames(hosts=("localhost", "proxy.example"), cluster_domain="cluster.local")
TEAM_A = {"*.team-a.svc", "*.team-a.svc.cluster.local"}


def load(confdir: Path) -> CertStore:
    """Load the CA in `confdir`. If there is none, mitmproxy creates one with an RSA key."""
    return CertStore.from_store(confdir, "mitmproxy", 2048)


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
    server = sessions.create_port_session(host) if at_port else sessions.create_tunnel_session(host)
    for _ in range(4):
        for one, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                one.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                other.bio_write(one.bio_read(65536))
    return client


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


def test_contexts_are_cached_and_bounded(confdir: Path) -> None:
    store = load(confdir)
    sessions = Certificates(lambda: store, OWN, max_contexts=2)
    first = sessions.create_tunnel_session("a.example").get_context()
    sessions.create_tunnel_session("b.example")
    assert sessions.create_tunnel_session("a.example").get_context() is first
    sessions.create_tunnel_session("c.example")
    assert sessions.create_tunnel_session("a.example").get_context() is first
    assert len(sessions._contexts) == 2


def test_a_new_ca_signs_all_later_certificates(confdir: Path, tmp_path: Path) -> None:
    signers = [load(confdir)]
    sessions = Certificates(lambda: signers[-1], OWN)
    before = sessions.create_tunnel_session("a.example").get_context()
    other = tmp_path / "other"
    CertStore.create_store(other, "mitmproxy", 2048)
    signers.append(load(other))
    assert sessions.create_tunnel_session("a.example").get_context() is not before
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
    hosts = [f"{number}.example" for number in range(int(certificates.UNKNOWN_BURST))]
    before = [sessions.create_tunnel_session(host).get_context() for host in hosts]
    clock[0] += timedelta(days=100).total_seconds()
    after = [sessions.create_tunnel_session(host).get_context() for host in hosts]
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
    sessions.create_tunnel_session("own.example")
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
    with pytest.raises(RuntimeError, match="no CA"):
        sessions.create_tunnel_session("a.example")


def test_certificates_for_unknown_hosts_are_rate_limited_and_do_not_evict_others(confdir: Path) -> None:
    store, clock = load(confdir), [0.0]
    sessions = Certificates(
        lambda: store, OWN, is_connector_host=lambda host: host == "k8s.example", now=lambda: clock[0]
    )
    ours = sessions.create_tunnel_session("k8s.example").get_context()
    for number in range(int(certificates.UNKNOWN_BURST)):
        sessions.create_tunnel_session(f"{number}.example")
    with pytest.raises(TooManyNamesError):
        sessions.create_tunnel_session("another.example")
    assert sessions.create_tunnel_session("49.example").get_context() is not ours
    assert sessions.create_tunnel_session("k8s.example").get_context() is ours
    clock[0] = 1 / certificates.UNKNOWN_RATE
    sessions.create_tunnel_session("another.example")
    with pytest.raises(TooManyNamesError):
        sessions.create_tunnel_session("one-more.example")


def test_unknown_server_names_count_too_and_fail_in_the_handshake(confdir: Path) -> None:
    store = load(confdir)
    sessions = Certificates(lambda: store, OWN, now=lambda: 0.0)
    for number in range(int(certificates.UNKNOWN_BURST)):
        assert f"{number}.example" in names(handshake(sessions, "k8s.example", name=f"{number}.example"))
    assert names(handshake(sessions, "k8s.example", name="another.example")) == {"k8s.example"}
    assert sessions.mismatch_count == 1


def test_contexts_for_unknown_hosts_are_bounded(confdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "MAX_UNKNOWN_CONTEXTS", 2)
    store = load(confdir)
    sessions = Certificates(lambda: store, OWN, is_connector_host=lambda host: False)
    for number in range(5):
        sessions.create_tunnel_session(f"{number}.example")
    assert len(sessions._unknown_contexts) == 2


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
    assert len(sessions._alias_contexts) == 20
    assert sessions.mismatch_count == 0


@pytest.mark.parametrize("alias", ["c-k8s.team-a.svc", "c-k8s.team-a.svc.cluster.local", "c-k8s.team-a"])
def test_clients_accept_the_certificate_for_an_alias(confdir: Path, alias: str) -> None:
    store, incoming, outgoing = load(confdir), ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cadata=store.default_ca.to_pem().decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the leaf has no Subject Key Identifier
    client = context.wrap_bio(incoming, outgoing, server_hostname=alias)
    server = Certificates(lambda: store, OWN).create_port_session("10.0.0.1")
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


def test_beyond_the_alias_rate_a_client_gets_the_default_certificate(confdir: Path) -> None:
    store, clock = load(confdir), [100.0]
    sessions = Certificates(lambda: store, OWN, now=lambda: clock[0])

    def certificate_names(alias: str) -> bool:
        return names(handshake(sessions, "10.0.0.1", name=alias, at_port=True)) == {alias}

    aliases = [f"c-{number}.n" for number in range(int(certificates.ALIAS_BURST) + 1)]
    assert [certificate_names(each) for each in aliases] == [True] * (len(aliases) - 1) + [False]
    assert sessions.mismatch_count == 1
    assert certificate_names(aliases[0])
    clock[0] += 2 / certificates.ALIAS_RATE
    assert certificate_names(aliases[-1])
