"""TLS sessions with clients, with certificates of the proxy's CA: for targets in tunnels and for names at the port.

A bounded cache has one TLS context for each name, so a new connection needs no signature of the CA and can resume a
session. The certificates share a separate EC P-256 key. A signature with it costs a twentieth of one with RSA, and the
CA's key signs only certificates. Clients can invent names that no Connector has. Certificates for these names are
rate-limited and have their own cache, so they do not evict the others. A context is replaced when a third of its
certificate's lifetime has passed.
"""

import datetime
import ipaddress
import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy.certs import CERT_EXPIRY, CERT_VALIDITY_OFFSET, CertStore, CertStoreEntry
from OpenSSL import SSL

from connector_store.cache import Lru
from connector_store.domain.decision.address_policy import normalise
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.token_bucket import TokenBucket

MAX_CONTEXTS: Final = 512
"""Maximum number of cached TLS contexts of each kind."""
MAX_UNKNOWN_CONTEXTS: Final = 64
"""Maximum number of cached TLS contexts for names that no Connector has."""
UNKNOWN_RATE: Final = 5.0
UNKNOWN_BURST: Final = 50.0
"""Certificates for these names per second, on average and in a burst. Each costs some milliseconds."""
ALIAS_RATE: Final = 20.0
ALIAS_BURST: Final = 100.0
"""Certificates for aliases at the port per second, on average and in a burst. There is one for all Connectors of a
namespace, and one for each short alias. The limit applies to existing and missing ones alike, because a difference
would reveal which Connectors exist."""
_ALPN: Final = b"http/1.1"
_GROUPS: Final = b"X25519/P-256/X25519MLKEM768/P-384"
"""Key exchanges (RFC 8446 section 4.2.7) in order of preference. ML-KEM costs a handshake a tenth more CPU and an open
connection 7 kB, so only clients without X25519 and P-256 get it. On connections to targets, where credentials may be
long-lived, the target chooses."""
_CIPHERS: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""TLS 1.3 cipher suites. They are OpenSSL's defaults, with the cheapest one first, as in Go's servers."""

_Names = tuple[str, ...]


class _CachedContext(NamedTuple):
    """TLS context, and the times at which its certificate expires and the proxy replaces it, in Unix seconds."""

    context: SSL.Context
    expires_at: float
    renew_at: float


class TooManyNamesError(ConnectionError):
    """The rate limit for new certificates is exceeded, so this name gets none now."""


class Certificates:
    """Factory of TLS server sessions.

    `get_signer` returns the current CA, or None before there is one. After a change, new sessions use the new CA.
    `is_connector_host` returns True if a Connector has that host. `wall_clock` returns Unix seconds.
    """

    def __init__(
        self,
        get_signer: Callable[[], CertStore | None],
        own_names: OwnNames,
        *,
        is_connector_host: Callable[[str], bool] = lambda host: True,
        max_contexts: int = MAX_CONTEXTS,
        now: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._get_signer = get_signer
        self._is_connector_host = is_connector_host
        self._wall_clock = wall_clock
        self._unknown_contexts = Lru[_Names, _CachedContext](MAX_UNKNOWN_CONTEXTS)
        self._unknown_limit = TokenBucket(rate=UNKNOWN_RATE, burst=UNKNOWN_BURST, now=now)
        self._own_names = own_names
        self._alias_contexts = Lru[_Names, _CachedContext](max_contexts)
        self._alias_limit = TokenBucket(rate=ALIAS_RATE, burst=ALIAS_BURST, now=now)
        self.mismatch_count = 0
        """Number of handshakes whose client got a certificate for another name, because a limit was exceeded."""
        self._signer: CertStore | None = None
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._contexts = Lru[_Names, _CachedContext](max_contexts)
        self._names_by_address = Lru[str, _Names](max_contexts)
        """Names in the certificate for each of the proxy's addresses."""

    @property
    def is_ready(self) -> bool:
        return self._get_signer() is not None

    @property
    def ca_expires_at(self) -> float | None:
        """Time at which the current CA expires, in Unix seconds. None if there is no CA."""
        signer = self._get_signer()
        return signer.default_ca.notafter.timestamp() if signer is not None else None

    @property
    def earliest_expires_at(self) -> float | None:
        """Earliest expiry of the certificates that new sessions can get, in Unix seconds. None if there are none."""
        now = self._wall_clock()
        caches = (self._contexts, self._unknown_contexts, self._alias_contexts)
        return min(
            (cached.expires_at for cache in caches for cached in cache.values() if now < cached.renew_at), default=None
        )

    def create_tunnel_session(self, host: str) -> SSL.Connection:
        """Create the server side of a session in a tunnel to `host`, a DNS name or an IP address.

        A client that sends another server name (`tls-server-name` in a kubeconfig) gets a certificate for both.
        Raises TooManyNamesError.
        """
        connection = SSL.Connection(self._tunnel_context((host,)))
        connection.set_app_data(host)
        connection.set_accept_state()
        return connection

    def create_port_session(self, address: str) -> SSL.Connection:
        """Create the server side of a session at the port, with a client that connected to the proxy's `address`.

        The certificate is for the proxy's own names, or for the Connector alias in the client's server name.
        """
        names = self._names_by_address.get(address)
        if names is None:
            names = tuple(dict.fromkeys((*self._own_names.hosts, str(normalise(address)))))
            self._names_by_address.put(address, names)
        connection = SSL.Connection(self._get_or_create(self._contexts, names, None))
        connection.set_app_data(self._own_names)
        connection.set_accept_state()
        return connection

    def _tunnel_context(self, names: _Names) -> SSL.Context:
        if len(names) == 1 and self._is_connector_host(names[0]):
            return self._get_or_create(self._contexts, names, None)
        return self._get_or_create(self._unknown_contexts, names, self._unknown_limit)

    def _get_or_create(
        self, contexts: Lru[_Names, _CachedContext], names: _Names, limit: TokenBucket | None
    ) -> SSL.Context:
        """Return the context for `names` from `contexts`, or create it. Raises TooManyNamesError above `limit`.

        The limit does not apply to the replacement of a context.
        """
        signer = self._get_signer()
        if signer is None:
            raise RuntimeError("there is no CA yet")
        if signer is not self._signer:
            for cache in (self._contexts, self._unknown_contexts, self._alias_contexts):
                cache.clear()
            self._signer = signer
        cached = contexts.get(names)
        if cached is None or self._wall_clock() >= cached.renew_at:
            if cached is None and limit is not None and not limit.take():
                raise TooManyNamesError("too many certificates for names that no Connector has; try again")
            cached = self._create_context(signer, names)
            contexts.put(names, cached)
        return cached.context

    def _create_context(self, signer: CertStore, names: _Names) -> _CachedContext:
        entry = signer.get_cert(names[0], [_general_name(name) for name in names])
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_tls13_ciphersuites(_CIPHERS)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # pyOpenSSL has no public function for several groups (SSL_CTX_set1_groups_list(3)).
        if SSL._lib.SSL_CTX_set1_curves_list(context._context, _GROUPS) != 1:  # type: ignore[attr-defined]  # pyOpenSSL has no call for it
            raise RuntimeError("OpenSSL has none of the key exchanges")
        now = self._wall_clock()
        if entry.privatekey is signer.default_privatekey:
            leaf = self._issue(signer, entry, now)
            renew_at = now + (leaf.not_valid_after_utc.timestamp() - now) / 3
            context.use_privatekey(self._key)
        else:
            # The administrator's own certificate, from mitmproxy's option `certs`, which the proxy cannot renew.
            leaf, renew_at = entry.cert.to_cryptography(), math.inf
            context.use_privatekey(entry.privatekey)
        context.use_certificate(leaf)
        for certificate in (cert.to_cryptography() for cert in entry.chain_certs):
            # Clients have their trusted roots. Intermediates, as after a rotation of the CA, complete the chain.
            if certificate.issuer != certificate.subject:
                context.add_extra_chain_cert(certificate)
        context.set_alpn_select_callback(_select_alpn)
        context.set_tlsext_servername_callback(self._on_server_name)
        return _CachedContext(context, leaf.not_valid_after_utc.timestamp(), renew_at)

    def _issue(self, signer: CertStore, entry: CertStoreEntry, now: float) -> x509.Certificate:
        """Issue mitmproxy's certificate again, for our own key instead of the CA's, and valid from now.

        mitmproxy's store keeps its certificates past their expiry, so their times are not used.
        """
        template = entry.cert.to_cryptography()
        not_before = datetime.datetime.fromtimestamp(now, datetime.UTC) + CERT_VALIDITY_OFFSET
        builder = x509.CertificateBuilder(
            issuer_name=template.issuer,
            subject_name=template.subject,
            public_key=self._key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=not_before,
            not_valid_after=not_before + CERT_EXPIRY,
            extensions=list(template.extensions),
        )
        return builder.sign(signer.default_privatekey, hashes.SHA256())

    def _on_server_name(self, connection: SSL.Connection) -> None:
        requested_name, host = connection.get_servername(), connection.get_app_data()
        if isinstance(host, OwnNames):
            self._use_alias_context(connection, (requested_name or b"").decode("ascii", "replace").lower())
            return
        name = requested_name.decode("ascii", "replace").lower() if requested_name else host
        if name != host and _general_name_or_none(name) is not None:
            try:
                connection.set_context(self._tunnel_context((host, name)))
            except TooManyNamesError:
                # The client gets the certificate for `host` and rejects it.
                self.mismatch_count += 1

    def _use_alias_context(self, connection: SSL.Connection, name: str) -> None:
        key = self._own_names.connector_by_alias(name)
        if key is None:
            return
        try:
            names = self._alias_names(name, key.namespace)
            connection.set_context(self._get_or_create(self._alias_contexts, names, self._alias_limit))
        except TooManyNamesError:
            # The client gets the certificate for the proxy's own names and rejects it.
            self.mismatch_count += 1

    def _alias_names(self, name: str, namespace: str) -> _Names:
        """Return the names in the certificate for an alias.

        All Connectors of a namespace share one. A short alias has its own, because some clients reject a wildcard in a
        name of two labels. The administrator's own certificate for an alias wins.
        """
        signer = self._get_signer()
        if name.count(".") == 1 or (
            signer is not None and any(each in signer.certs for each in signer.asterisk_forms(name))
        ):
            return (name,)
        service_domain = f"*.{namespace}.svc"
        return (service_domain, f"{service_domain}.{self._own_names.cluster_domain}")


def _select_alpn(_: SSL.Connection, protocols: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
    return _ALPN if _ALPN in protocols else SSL.NO_OVERLAPPING_PROTOCOLS


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _general_name_or_none(name: str) -> x509.GeneralName | None:
    try:
        return _general_name(name)
    except ValueError:
        return None
