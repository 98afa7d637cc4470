"""TLS towards clients: certificates of the proxy's CA, for targets in tunnels and for its own names at the port.

There is one TLS context per name, kept and bounded, so that a new connection costs no signature of the CA and can
resume. The certificates have a key of their own, EC P-256: one signature with it costs a twentieth of RSA's, and the
CA's key signs nothing but certificates. Names that no Connector has are anybody's to invent: their certificates come at
a bounded rate, and take no place of the others.
"""

import contextlib
import ipaddress
import time
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy.certs import CertStore, CertStoreEntry
from OpenSSL import SSL

from connector_store.cache import Lru
from connector_store.domain.decision.address_policy import normalise
from connector_store.domain.kubeconfig.own_names import OwnNames
from connector_store.token_bucket import TokenBucket

MAX_CONTEXTS: Final = 512
MAX_UNKNOWN_CONTEXTS: Final = 64
"""Contexts of names that no Connector has."""
UNKNOWN_RATE: Final = 5.0
UNKNOWN_BURST: Final = 50.0
"""Certificates for them in a second, in the long run and at once: each costs some milliseconds."""
ALIAS_RATE: Final = 20.0
ALIAS_BURST: Final = 100.0
"""The same for aliases at the port, of whatever Connector: a bound that told them apart would say which there are."""
_ALPN: Final = b"http/1.1"
_GROUPS: Final = b"X25519/P-256/X25519MLKEM768/P-384"
"""Key exchanges (RFC 8446 section 4.2.7), the first that the client has. ML-KEM would cost each handshake a tenth more
CPU, and each open connection 7 kB; who has nothing else gets it. Towards targets, where what is lent may live long,
it is what the target prefers."""
_CIPHERS: Final = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Of TLS 1.3, OpenSSL's own but for their order: what costs least first, as Go's servers have it."""

_Names = tuple[str, ...]


class TooManyNamesError(ConnectionError):
    """So many names that no Connector has were asked for that this one gets no certificate now."""


class Certificates:
    """`authority` gives the CA that signs now, None while there is none; a changed one is used from then on.

    `known` says of a host whether a Connector has it.
    """

    def __init__(
        self,
        get_signer: Callable[[], CertStore | None],
        own_names: OwnNames,
        *,
        is_connector_host: Callable[[str], bool] = lambda host: True,
        max_contexts: int = MAX_CONTEXTS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._get_signer = get_signer
        self._is_connector_host = is_connector_host
        self._unknown_contexts = Lru[_Names, SSL.Context](MAX_UNKNOWN_CONTEXTS)
        self._unknown_limit = TokenBucket(rate=UNKNOWN_RATE, burst=UNKNOWN_BURST, now=now)
        self._own_names = own_names
        self._alias_contexts = Lru[_Names, SSL.Context](max_contexts)
        self._alias_limit = TokenBucket(rate=ALIAS_RATE, burst=ALIAS_BURST, now=now)
        self._signer: CertStore | None = None
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._contexts = Lru[_Names, SSL.Context](max_contexts)
        self._names_by_address = Lru[str, _Names](max_contexts)
        """Names at each of the proxy's addresses."""

    @property
    def is_ready(self) -> bool:
        return self._get_signer() is not None

    @property
    def ca_expires_at(self) -> float | None:
        """When that CA ends, in unix seconds."""
        signer = self._get_signer()
        return signer.default_ca.notafter.timestamp() if signer is not None else None

    def create_tunnel_session(self, host: str) -> SSL.Connection:
        """The server's side of a handshake with a client that asked for `host`, a DNS name or an IP address.

        A client that sends another server name (`tls-server-name` in a kubeconfig) gets a certificate for both.
        TooManyNamesError: see there.
        """
        connection = SSL.Connection(self._tunnel_context((host,)))
        connection.set_app_data(host)
        connection.set_accept_state()
        return connection

    def create_port_session(self, address: str) -> SSL.Connection:
        """The server's side of a handshake with a client that speaks TLS to the proxy itself, at its `address`.

        It gets a certificate for the proxy's own names, or for the Connector's alias that it asks for.
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
        """Of a tunnel."""
        if len(names) == 1 and self._is_connector_host(names[0]):
            return self._get_or_create(self._contexts, names, None)
        return self._get_or_create(self._unknown_contexts, names, self._unknown_limit)

    def _get_or_create(
        self, contexts: Lru[_Names, SSL.Context], names: _Names, limit: TokenBucket | None
    ) -> SSL.Context:
        """From `held`, or made if `bucket` has room for that."""
        signer = self._get_signer()
        if signer is None:
            raise RuntimeError("there is no CA yet")
        if signer is not self._signer:
            for cache in (self._contexts, self._unknown_contexts, self._alias_contexts):
                cache.clear()
            self._signer = signer
        context = contexts.get(names)
        if context is None:
            if limit is not None and not limit.take():
                raise TooManyNamesError("too many certificates for names that no Connector has; try again")
            context = self._create_context(signer, names)
            contexts.put(names, context)
        return context

    def _create_context(self, signer: CertStore, names: _Names) -> SSL.Context:
        entry = signer.get_cert(names[0], [_general_name(each) for each in names])
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE)
        context.set_tls13_ciphersuites(_CIPHERS)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        # pyOpenSSL has no public way to several of them (SSL_CTX_set1_groups_list(3)).
        if SSL._lib.SSL_CTX_set1_curves_list(context._context, _GROUPS) != 1:  # type: ignore[attr-defined]  # pyOpenSSL has no call for it
            raise RuntimeError("OpenSSL has none of the key exchanges")
        if entry.privatekey is signer.default_privatekey:
            context.use_privatekey(self._key)
            context.use_certificate(self._issue(signer, entry))
        else:
            # Somebody's own certificate: the option `certs`.
            context.use_privatekey(entry.privatekey)
            context.use_certificate(entry.cert.to_cryptography())
        for each in (sent.to_cryptography() for sent in entry.chain_certs):
            # Clients have the roots that they trust; the others lead there, as after a rotation of the CA.
            if each.issuer != each.subject:
                context.add_extra_chain_cert(each)
        context.set_alpn_select_callback(_select_alpn)
        context.set_tlsext_servername_callback(self._on_server_name)
        return context

    def _issue(self, signer: CertStore, entry: CertStoreEntry) -> x509.Certificate:
        """mitmproxy's certificate, for our key instead of the CA's."""
        template = entry.cert.to_cryptography()
        builder = x509.CertificateBuilder(
            issuer_name=template.issuer,
            subject_name=template.subject,
            public_key=self._key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=template.not_valid_before_utc,
            not_valid_after=template.not_valid_after_utc,
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
            # Without one the client sees a certificate for another name than it asked for.
            with contextlib.suppress(TooManyNamesError):
                connection.set_context(self._tunnel_context((host, name)))

    def _use_alias_context(self, connection: SSL.Connection, name: str) -> None:
        if self._own_names.connector_by_alias(name) is not None:
            # Without one the client sees the certificate of the proxy's own names.
            with contextlib.suppress(TooManyNamesError):
                connection.set_context(self._get_or_create(self._alias_contexts, (name,), self._alias_limit))


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
