import contextlib
import os
import ssl
import subprocess
import sys

import pytest
from OpenSSL import SSL

from connector_store.domain.base.errors import ParseError
from connector_store.trust import MAX_CONTEXT_BYTES, TrustStore, estimate_bytes, load_certificates
from lab.certificates import KeyPair, make_ca, make_leaf

HOST = "target.example.com"


class Case:
    """Server certificate, the client's trust, and the expected result."""

    def __init__(self, server: KeyPair, ca: bytes | None, host: str = HOST) -> None:
        self.server, self.ca, self.host = server, ca, host


ROOT = make_ca("root")
BARE = make_ca("bare", without_key_usage=True)
MIDDLE = make_ca("middle", issuer=ROOT)
OTHER = make_ca("other")
PINNED = make_leaf(None, [HOST])

TRUSTED = {
    "the CA that signed it": Case(make_leaf(ROOT, [HOST]), ROOT.pem),
    "a CA without key usage and key identifiers": Case(make_leaf(BARE, [HOST]), BARE.pem),
    "a chain through an intermediate": Case(make_leaf(MIDDLE, [HOST]), ROOT.pem),
    "a pinned intermediate (partial chain)": Case(make_leaf(MIDDLE, [HOST], send_chain=False), MIDDLE.pem),
    "a pinned server certificate": Case(PINNED, PINNED.pem),
    "one of several CAs": Case(make_leaf(ROOT, [HOST]), OTHER.pem + b"\n" + ROOT.pem + ROOT.pem),
    "text around the certificates": Case(make_leaf(ROOT, [HOST]), b"# ours\r\n" + ROOT.pem.replace(b"\n", b"\r\n")),
    "an IPv4 address": Case(make_leaf(ROOT, ["192.0.2.1"]), ROOT.pem, "192.0.2.1"),
    "an IPv6 address": Case(make_leaf(ROOT, ["2001:db8::1"]), ROOT.pem, "2001:db8::1"),
    "a wildcard": Case(make_leaf(ROOT, ["*.example.com"]), ROOT.pem),
}
REFUSED = {
    "another CA": Case(make_leaf(ROOT, [HOST]), OTHER.pem),
    "another host": Case(make_leaf(ROOT, ["other.example.com"]), ROOT.pem),
    "another address": Case(make_leaf(ROOT, ["192.0.2.2"]), ROOT.pem, "192.0.2.1"),
    "an address that is only a DNS name": Case(make_leaf(ROOT, [HOST]), ROOT.pem, "192.0.2.1"),
    "a common name alone": Case(make_leaf(ROOT, [], name=HOST), ROOT.pem),
    "an expired certificate": Case(make_leaf(ROOT, [HOST], expired=True), ROOT.pem),
    "an intermediate that is not sent": Case(make_leaf(MIDDLE, [HOST], send_chain=False), ROOT.pem),
    "a part of a label": Case(make_leaf(ROOT, ["tar*.example.com"]), ROOT.pem),
}


def server_context(server: KeyPair) -> ssl.SSLContext:
    context = server.server_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


class Server:
    """Server side of a handshake, in memory."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)

    def step(self, data: bytes) -> bytes:
        self._in.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._out.read()


def shake_ssl(store: TrustStore, case: Case, context: ssl.SSLContext) -> str | None:
    """Return the ALPN protocol. Raises the error of a refusal."""
    server = Server(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = store.ssl_context(case.ca).wrap_bio(incoming, outgoing, server_hostname=case.host)
    while True:
        try:
            client.do_handshake()
            return client.selected_alpn_protocol()
        except ssl.SSLWantReadError:
            incoming.write(server.step(outgoing.read()))


def shake_openssl(store: TrustStore, case: Case, context: ssl.SSLContext) -> str | None:
    server = Server(context)
    client = store.openssl_connection(case.ca, case.host)
    while True:
        try:
            client.do_handshake()
            return client.get_alpn_proto_negotiated().decode()
        except SSL.WantReadError:
            client.bio_write(server.step(client.bio_read(1 << 16)))


SHAKES = pytest.mark.parametrize("shake", [shake_ssl, shake_openssl])


@SHAKES
@pytest.mark.parametrize("name", TRUSTED)
def test_trusted(shake, name) -> None:
    case = TRUSTED[name]
    assert shake(TrustStore(), case, server_context(case.server)) == "http/1.1"


@SHAKES
@pytest.mark.parametrize("name", REFUSED)
def test_refused(shake, name) -> None:
    case = REFUSED[name]
    context = server_context(case.server)
    with pytest.raises((ssl.SSLCertVerificationError, SSL.Error), match=r"(?i)certificate.verify.failed"):
        shake(TrustStore(), case, context)


@SHAKES
def test_tls_1_1_is_refused(shake) -> None:
    case = TRUSTED["the CA that signed it"]
    context = server_context(case.server)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, SSL.Error), match=r"(?i)protocol|version"):
        shake(TrustStore(), case, context)


@SHAKES
def test_the_key_log_stays_empty(shake, tmp_path, monkeypatch) -> None:
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", os.fspath(log))
    case = TRUSTED["the CA that signed it"]
    shake(TrustStore(), case, server_context(case.server))
    assert not log.exists()


@SHAKES
def test_the_environment_can_name_the_systems_store(shake, tmp_path, monkeypatch) -> None:
    bundle = tmp_path / "system.pem"
    bundle.write_bytes(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(bundle))
    case = Case(make_leaf(ROOT, [HOST]), None)
    assert shake(TrustStore(), case, server_context(case.server)) == "http/1.1"


def test_the_server_name_is_sent_for_names_only() -> None:
    for host, expected in ((HOST, HOST), ("192.0.2.1", None)):
        server_names: list[str | None] = []
        context = server_context(make_leaf(ROOT, [host]))
        context.sni_callback = lambda _socket, name, _context, server_names=server_names: server_names.append(name)
        server = Server(context)
        client = TrustStore().openssl_connection(ROOT.pem, host)
        with pytest.raises(SSL.WantReadError):
            client.do_handshake()
        server.step(client.bio_read(1 << 16))
        assert server_names == [expected]


def test_contexts_are_shared_by_what_they_trust_and_bounded() -> None:
    store = TrustStore(max_context_bytes=2 * estimate_bytes(OTHER.pem))
    first, second = store.ssl_context(ROOT.pem), store.openssl_context(ROOT.pem)
    other = store.ssl_context(OTHER.pem)
    assert store.ssl_context(bytes(bytearray(ROOT.pem))) is first
    assert store.openssl_context(ROOT.pem) is second
    store.ssl_context(BARE.pem)
    assert store.ssl_context(ROOT.pem) is first, "used since, so it stays"
    assert store.ssl_context(OTHER.pem) is not other, "the least recently used is dropped"


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="no PEM"),
        pytest.param(ROOT.key_pem, id="a key alone"),
        pytest.param(ROOT.pem + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", id="one is broken"),
        pytest.param(ROOT.pem[:-40], id="cut off"),
        pytest.param(b"\xff\x00" * 100, id="bytes"),
    ],
)
def test_an_unreadable_bundle_is_a_parse_error(pem) -> None:
    with pytest.raises(ParseError, match="not a PEM bundle"):
        TrustStore().ssl_context(pem)
    with pytest.raises(ParseError, match="not a PEM bundle"):
        TrustStore().openssl_context(pem)


def test_a_key_next_to_a_certificate_is_skipped() -> None:
    assert load_certificates(ROOT.key_pem + ROOT.pem) == [ROOT.certificate]


def test_a_host_name_that_is_not_ascii_is_refused_before_any_handshake() -> None:
    with pytest.raises(UnicodeEncodeError):
        TrustStore().openssl_connection(ROOT.pem, "bücher.example")


def test_contexts_of_5000_cas_fit_and_large_bundles_count_for_more() -> None:
    assert 5_000 * estimate_bytes(ROOT.pem) <= MAX_CONTEXT_BYTES
    assert estimate_bytes(ROOT.pem * 50) > 10 * estimate_bytes(ROOT.pem)
    assert estimate_bytes(None) > 30 * estimate_bytes(ROOT.pem)


@pytest.mark.slow
def test_the_estimate_is_close_to_the_memory_that_contexts_use() -> None:
    """Measured in a process of its own, because the memory of this one has gaps that OpenSSL uses."""
    program = """
import sys
from connector_store.trust import TrustStore, estimate_bytes
from lab.certificates import make_ca
cas = [make_ca(f"ca {number}").pem for number in range(int(sys.argv[1]))]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
store = TrustStore()
store.openssl_context(cas[0])
before = resident()
for ca in cas:
    store.openssl_context(ca)
print((resident() - before) / sum(map(estimate_bytes, cas)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program, "400"], capture_output=True, text=True, check=True, timeout=180
    )
    assert 0.5 <= float(result.stdout) <= 1.3
