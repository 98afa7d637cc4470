"""TLS contexts for connections to targets, shared by what they trust.

The proxy (pyOpenSSL, in addons/net/tls.py) and the controller's probes must judge a target alike. Both kinds of context
therefore follow the same rules:

- TLS 1.2 or later, and HTTP/1.1 only
- The peer's certificate is verified. Subject common names are ignored.
- No key log is written, even if SSLKEYLOGFILE is set.
- What kubectl (Go crypto/x509) trusts is trusted: each certificate of the PEM is a trust anchor, and a CA needs no key
  usage. VERIFY_X509_STRICT is therefore off.
"""

import ipaddress
import ssl
import time
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from OpenSSL import SSL, crypto

from connector_store.cache import Lru
from connector_store.domain.base.errors import ParseError
from connector_store.domain.credential.client_certificate import ClientCertificate

MAX_CONTEXT_BYTES: Final = 96 * 1024 * 1024
"""Maximum number of bytes of the contexts of each kind: 5,000 targets with one CA each."""
CONTEXT_BYTES: Final = 15_000
CA_BYTES: Final = 4_500
SYSTEM_STORE_BYTES: Final = 800_000
"""Measured bytes of a context, of each CA in it, and of the system's store in place of these."""
MAX_SESSIONS: Final = 4096
"""Maximum number of TLS sessions that may be resumed. One costs about 5 kB."""
SESSION_LIFETIME: Final = 3600.0
"""Seconds after the handshake that verified the certificate. RFC 8446 section 4.6.1 would allow a week."""

_ALPN: Final = b"http/1.1"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
"""Keys that sign in TLS 1.2 and 1.3."""

_ContextKey = tuple[bytes | None, ClientCertificate | None]
"""Key of a context: the CAs that it trusts, and its client certificate."""


class TrustStore:
    """Cache of TLS contexts for targets, one for each set of CAs. The least recently used one is evicted.

    `ca` is PEM, or None for the system's store. Raises ParseError if it has no certificate or one that is not readable.
    """

    def __init__(
        self,
        *,
        max_context_bytes: int = MAX_CONTEXT_BYTES,
        max_sessions: int = MAX_SESSIONS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ssl_contexts = Lru[bytes | None, ssl.SSLContext](max_context_bytes, estimate_bytes)
        self._openssl_contexts = Lru[_ContextKey, SSL.Context](max_context_bytes, lambda key: estimate_bytes(key[0]))
        self._now = now
        self._sessions = Lru[tuple[SSL.Context, str], tuple[float, SSL.Session]](max_sessions)

    def ssl_context(self, ca: bytes | None) -> ssl.SSLContext:
        """Return the context for asyncio and aiohttp, which check the host name against `server_hostname`."""
        context = self._ssl_contexts.get(ca)
        if context is None:
            context = _make_ssl_context(ca)
            self._ssl_contexts.put(ca, context)
        return context

    def openssl_context(self, ca: bytes | None, identity: ClientCertificate | None = None) -> SSL.Context:
        """Return the context for pyOpenSSL. It does not check host names; use `openssl_connection` for a target.

        With an `identity`, it presents that client certificate. Two identities never share a context.
        """
        # The PEM of a target is one object, whose hash Python computes once. So no request needs a digest.
        key = (ca, identity)
        context = self._openssl_contexts.get(key)
        if context is None:
            context = _make_openssl_context(ca, identity)
            self._openssl_contexts.put(key, context)
        return context

    def openssl_connection(
        self, ca: bytes | None, host: str, identity: ClientCertificate | None = None
    ) -> SSL.Connection:
        """Return a connection without a socket, ready for its handshake.

        Trust, client certificate, server name and host check are set. `host` is a DNS name, or an IP address without
        brackets. For an address, no server name is sent (RFC 6066). A session is resumed only with the same trust and
        the same identity, because the target remembers the client's identity in it.
        """
        context = self.openssl_context(ca, identity)
        connection = SSL.Connection(context)
        _set_expected_host(connection, host)
        connection.set_connect_state()
        now = self._now()
        verified_at, session = self._sessions.get((context, host)) or (now, None)
        if session is not None and now < verified_at + SESSION_LIFETIME:
            connection.set_session(session)
        connection.set_app_data((verified_at, now))
        return connection

    def store_session(self, connection: SSL.Connection, host: str) -> None:
        """Store the session of `connection`, so that the next one to `host` with the same context may resume it.

        A resumed session is as safe as its first handshake, which verified the certificate for this host.
        """
        session = connection.get_session()
        # OpenSSL does not resume a session whose connection ended without close_notify (SSL_set_shutdown(3)).
        connection.set_shutdown(SSL.SENT_SHUTDOWN | SSL.RECEIVED_SHUTDOWN)
        if session is None:
            return
        session_key = (connection.get_context(), host)
        resumed_verified_at, handshake_at = connection.get_app_data()
        verified_at = resumed_verified_at if _is_resumed(connection) else handshake_at
        entry = self._sessions.get(session_key)
        if entry is None or verified_at >= entry[0]:
            self._sessions.put(session_key, (verified_at, session))


def estimate_bytes(ca: bytes | None) -> int:
    """Return about how many bytes of memory a context with these CAs uses."""
    return CONTEXT_BYTES + (SYSTEM_STORE_BYTES if ca is None else CA_BYTES * ca.count(b"-----BEGIN CERTIFICATE-----"))


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """Parse all certificates of a PEM bundle. Raises ParseError if there is none or one is not readable."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ParseError("", "not a PEM bundle of certificates that can be read; renew it from its source") from error


def _make_ssl_context(ca: bytes | None) -> ssl.SSLContext:
    # Unlike create_default_context, SSLContext neither sets VERIFY_X509_STRICT nor reads SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    context.set_alpn_protocols([_ALPN.decode()])
    if ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(
            cadata=b"".join(each.public_bytes(Encoding.DER) for each in load_certificates(ca))
        )
    return context


def _make_openssl_context(ca: bytes | None, identity: ClientCertificate | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_verify(SSL.VERIFY_PEER)
    # A renegotiation by the target would block writes. RFC 8446 removed renegotiation.
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # This frees the record buffers of idle watches, 34 kB each.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_protos([_ALPN])
    store = context.get_cert_store()
    if store is None:
        raise RuntimeError("a new TLS context has no certificate store")
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    if ca is None:
        context.set_default_verify_paths()
    else:
        for each in load_certificates(ca):
            store.add_cert(crypto.X509.from_cryptography(each))
    if identity is not None:
        _use_client_certificate(context, identity)
    return context


def _use_client_certificate(context: SSL.Context, identity: ClientCertificate) -> None:
    leaf, *intermediates = load_certificates(identity.chain)
    try:
        context.use_certificate(leaf)
        context.use_privatekey(_load_private_key(identity))
        context.check_privatekey()
    except SSL.Error:
        raise ParseError("", "a client certificate that TLS does not take; renew it from its source") from None
    for each in intermediates:
        context.add_extra_chain_cert(each)


def _load_private_key(identity: ClientCertificate) -> PrivateKey:
    try:
        key = load_pem_private_key(identity.key, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, PrivateKey):
        raise ParseError("", "a client certificate whose key cannot be read; renew it from its source")
    return key


class TlsError(ConnectionError):
    """Failure of TLS, with a text that may be shown."""


class InvalidCertificateError(TlsError):
    """The peer's certificate is not valid."""


class NotTlsError(TlsError):
    """The peer does not speak TLS."""


def tls_error(tls: SSL.Connection, error: SSL.Error) -> TlsError:
    """Return the error with its reason: the verification error, or else OpenSSL's last reason."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    last_reason = reasons[-1][-1] if reasons else type(error).__name__
    if last_reason == "certificate verify failed":
        # pyOpenSSL has no public call for SSL_get_verify_result(3).
        lib, ffi = SSL._lib, SSL._ffi  # type: ignore[attr-defined]  # the binding is not public in pyOpenSSL
        verify_error = lib.X509_verify_cert_error_string(lib.SSL_get_verify_result(tls._ssl))
        return InvalidCertificateError(f"its certificate is not valid: {ffi.string(verify_error).decode()}")
    if tls.get_finished() is None and last_reason in (
        "wrong version number",
        "packet length too long",
        "record layer failure",
        "http request",
    ):
        return NotTlsError("it does not speak TLS")
    return TlsError(f"TLS failed: {last_reason or 'unexpected end'}")


def _is_resumed(connection: SSL.Connection) -> bool:
    # pyOpenSSL has no public call for SSL_session_reused(3).
    return bool(SSL._lib.SSL_session_reused(connection._ssl))  # type: ignore[attr-defined]  # the binding is not public in pyOpenSSL


def _set_expected_host(connection: SSL.Connection, host: str) -> None:
    # pyOpenSSL has no public call for X509_VERIFY_PARAM_set1_host(3). mitmproxy does the same.
    lib = SSL._lib  # type: ignore[attr-defined]  # the binding is not public in pyOpenSSL
    param = lib.SSL_get0_param(connection._ssl)
    flags = lib.X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | lib.X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
    lib.X509_VERIFY_PARAM_set_hostflags(param, flags)
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        name = host.encode("ascii")
        connection.set_tlsext_host_name(name)
        result = lib.X509_VERIFY_PARAM_set1_host(param, name, len(name))
    else:
        result = lib.X509_VERIFY_PARAM_set1_ip(param, packed, len(packed))
    if result != 1:
        raise RuntimeError("OpenSSL refused the host name to verify")
