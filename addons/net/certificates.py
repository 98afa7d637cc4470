"""TLS sessions with clients, with certificates of the proxy's CA: for targets in tunnels and for names at the port.

A bounded cache has the certificates, so a new connection needs no signature of the CA. The certificates share a
separate EC P-256 key and one TLS context. A signature with the key costs a twentieth of one with RSA, and the CA's key
signs only certificates.

Clients can invent names. New certificates are therefore rate-limited by the client's address, and a handshake above the
rate waits. Certificates with which no caller was accepted yet have their own cache, so they do not evict the others. A
certificate is replaced when a third of its lifetime has passed.
"""

import datetime
import ipaddress
import math
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy.certs import CERT_EXPIRY, CERT_VALIDITY_OFFSET, Cert, CertStore, CertStoreEntry
from OpenSSL import SSL, crypto

from connector_store.cache import Lru
from connector_store.domain.decision.address_policy import normalise
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.token_bucket import TokenBucketBySource
from connector_store.trust import PrivateKey

MAX_ACCEPTED: Final = 10_000
"""Maximum number of cached certificates with which a caller was accepted, or for hosts of Connectors."""
MAX_UNACCEPTED: Final = 1_000
"""Maximum number of other cached certificates. One costs about 5 kB, because its names have at most 255 characters."""
MAX_ADDRESSES: Final = 512
"""Maximum number of the proxy's own addresses whose names are cached."""
NEW_RATE: Final = 20.0
NEW_BURST: Final = 100.0
"""New certificates per second for one client address, on average and in a burst. Each costs some milliseconds. The
limit applies to existing and missing Connectors alike, because a difference would reveal which ones exist."""
MAX_WAIT: Final = 5.0
"""Maximum number of seconds that a handshake waits for a new certificate. client-go gives a handshake 10 s."""
_ALPN: Final = b"http/1.1"
_GROUPS: Final = b"X25519/P-256/X25519MLKEM768/P-384"
"""Key exchanges (RFC 8446 section 4.2.7) in order of preference. ML-KEM costs a handshake a tenth more CPU and an open
connection 7 kB, so only clients without X25519 and P-256 get it. On connections to targets, where credentials may be
long-lived, the target chooses."""
_CIPHERS: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""TLS 1.3 cipher suites. They are OpenSSL's defaults, with the cheapest one first, as in Go's servers."""
_NO_AUTO_CHAIN: Final = 0x8
"""SSL_MODE_NO_AUTO_CHAIN, which pyOpenSSL does not have (SSL_CTX_set_mode(3)). OpenSSL would search the issuers of the
certificate in each handshake. The context has the whole chain."""

Names = tuple[str, ...]
"""Host names and addresses in a certificate."""


class _Certificate(NamedTuple):
    """Certificate, and the times at which it expires and the proxy replaces it, in Unix seconds."""

    context: SSL.Context
    leaf: crypto.X509
    signer: CertStore
    expires_at: float
    renew_at: float


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
        max_accepted: int = MAX_ACCEPTED,
        max_unaccepted: int = MAX_UNACCEPTED,
        now: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._get_signer = get_signer
        self._own_names = own_names
        self._is_connector_host = is_connector_host
        self._wall_clock = wall_clock
        self._limit = TokenBucketBySource(rate=NEW_RATE, burst=NEW_BURST, now=now)
        self._accepted = Lru[Names, _Certificate](max_accepted)
        self._unaccepted = Lru[Names, _Certificate](max_unaccepted)
        self._names_by_address = Lru[str, Names](MAX_ADDRESSES)
        """Names in the certificate for each of the proxy's addresses."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._signer: CertStore | None = None
        self._context: SSL.Context | None = None
        """Context for certificates of `_signer`."""
        self.refusal_count = 0
        """Number of handshakes that failed because of the limit on new certificates."""

    @property
    def is_ready(self) -> bool:
        return self._get_signer() is not None

    @property
    def ca_expires_at(self) -> float | None:
        """Time at which the current CA expires, in Unix seconds. None while the CA is not available."""
        signer = self._get_signer()
        return signer.default_ca.notafter.timestamp() if signer is not None else None

    @property
    def earliest_expires_at(self) -> float | None:
        """Earliest expiry of the certificates that new sessions can get, in Unix seconds. None if there are none."""
        now, caches = self._wall_clock(), (self._accepted, self._unaccepted)
        return min(
            (cached.expires_at for cache in caches for cached in cache.values() if now < cached.renew_at), default=None
        )

    def names_in_tunnel(self, host: str, server_name: str) -> Names:
        """Return the names for a session in a tunnel to `host`, a DNS name or an IP address.

        A client that sends another server name (`tls-server-name` in a kubeconfig) gets a certificate for both.
        """
        if server_name and server_name != host and _general_name_or_none(server_name) is not None:
            return (host, server_name)
        return (host,)

    def names_at_port(self, address: str, server_name: str) -> Names:
        """Return the names for a session at the port, with a client that connected to the proxy's `address`.

        They are the proxy's own names, or those for the Connector alias `server_name`. All Connectors of a namespace
        share a certificate. A short alias has its own, because some clients reject a wildcard in a name of two labels.
        The administrator's own certificate for an alias wins.
        """
        key = self._own_names.connector_by_alias(server_name)
        if key is None:
            return self._names_of_address(address)
        signer = self._get_signer()
        if server_name.count(".") == 1 or (
            signer is not None and any(each in signer.certs for each in signer.asterisk_forms(server_name))
        ):
            return (server_name,)
        service_domain = f"*.{key.namespace}.svc"
        return (service_domain, f"{service_domain}.{self._own_names.cluster_domain}")

    def reserve(self, names: Names, source_ip: str) -> float | None:
        """Return the number of seconds after which a client at `source_ip` may get a session for `names`.

        The result is None if that is more than `MAX_WAIT`. It is 0 for a cached certificate.
        """
        if self._find(names) is not None or self._is_exempt(names):
            return 0.0
        wait = self._limit.reserve(source_ip, max_wait=MAX_WAIT)
        self.refusal_count += wait is None
        return wait

    def create_session(self, names: Names) -> SSL.Connection:
        """Create the server side of a session. The caller of this method has called `reserve`."""
        certificate = self._find(names)
        if certificate is None or self._wall_clock() >= certificate.renew_at:
            is_accepted = self._is_exempt(names) or self._accepted.get(names) is not None
            certificate = self._issue(names)
            (self._accepted if is_accepted else self._unaccepted).put(names, certificate)
        connection = SSL.Connection(certificate.context)
        # pyOpenSSL's use_certificate would copy the certificate for each connection.
        if SSL._lib.SSL_use_certificate(connection._ssl, certificate.leaf._x509) != 1:  # type: ignore[attr-defined]  # see above
            raise RuntimeError("OpenSSL refused the certificate")
        connection.set_app_data((names, certificate))
        connection.set_accept_state()
        return connection

    def accept(self, session: SSL.Connection) -> None:
        """Keep the certificate of `session` apart from those of unauthenticated clients. Its caller was accepted."""
        names, certificate = session.get_app_data()
        if certificate.signer is self._signer and self._accepted.get(names) is None:
            self._unaccepted.drop(names)
            self._accepted.put(names, certificate)

    def _names_of_address(self, address: str) -> Names:
        names = self._names_by_address.get(address)
        if names is None:
            names = tuple(dict.fromkeys((*self._own_names.hosts, str(normalise(address)))))
            self._names_by_address.put(address, names)
        return names

    def _is_exempt(self, names: Names) -> bool:
        """Return True for names that clients cannot invent: the proxy's own, and those of Connectors' targets."""
        if len(names) == 1:
            return self._is_connector_host(names[0]) and self._own_names.connector_by_alias(names[0]) is None
        return names[: len(self._own_names.hosts)] == self._own_names.hosts

    def _find(self, names: Names) -> _Certificate | None:
        """Return the cached certificate for `names`, which may be due for renewal."""
        signer = self._get_signer()
        if signer is None:
            raise RuntimeError("the CA is not available yet")
        if signer is not self._signer:
            self._accepted.clear()
            self._unaccepted.clear()
            self._signer = signer
            self._context = _create_context(self._key, signer.default_chain_certs)
        return self._accepted.get(names) or self._unaccepted.get(names)

    def _issue(self, names: Names) -> _Certificate:
        signer, context = self._signer, self._context
        if signer is None or context is None:
            raise RuntimeError("the CA is not available yet")
        entry = signer.get_cert(names[0], [_general_name(name) for name in names])
        now = self._wall_clock()
        if entry.privatekey is signer.default_privatekey:
            leaf = self._sign(signer, entry, now)
            expires_at = leaf.not_valid_after_utc.timestamp()
            renew_at = now + (expires_at - now) / 3
        else:
            # The administrator's own certificate, from mitmproxy's option `certs`, which the proxy cannot renew.
            context = _create_context(entry.privatekey, entry.chain_certs)
            leaf, renew_at = entry.cert.to_cryptography(), math.inf
            expires_at = leaf.not_valid_after_utc.timestamp()
        return _Certificate(context, crypto.X509.from_cryptography(leaf), signer, expires_at, renew_at)

    def _sign(self, signer: CertStore, entry: CertStoreEntry, now: float) -> x509.Certificate:
        """Sign mitmproxy's certificate again, for our own key instead of the CA's, and valid from now.

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


def _create_context(key: PrivateKey, chain: Sequence[Cert]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_tls13_ciphersuites(_CIPHERS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _NO_AUTO_CHAIN)
    # pyOpenSSL has no public function for several groups (SSL_CTX_set1_groups_list(3)).
    if SSL._lib.SSL_CTX_set1_curves_list(context._context, _GROUPS) != 1:  # type: ignore[attr-defined]  # pyOpenSSL has no call for it
        raise RuntimeError("OpenSSL has none of the key exchanges")
    context.use_privatekey(key)
    for certificate in (cert.to_cryptography() for cert in chain):
        # Clients have their trusted roots. Intermediates, as after a rotation of the CA, complete the chain.
        if certificate.issuer != certificate.subject:
            context.add_extra_chain_cert(certificate)
    context.set_alpn_select_callback(_select_alpn)
    return context


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
