"""The proxy's CA: certificates and keys, and how they lie in the Secret.

The Secret (setting `ca-secret`, type Opaque) has these keys; annotations and who changes what are in `handover`:

    mitmproxy-ca.pem   what signs, as mitmproxy reads a file of that name: private key (PEM, in clear, EC or RSA), its
                       CA certificate, and what else to send with leaf certificates. After a rotation that certificate
                       is the one that the former CA signed, so that whoever trusts the former one goes on.
    ca.crt             the CA certificates to publish (ConfigMap, CACerts, GET /ca.crt), the one that signs first.
                       Absent: the first certificate of mitmproxy-ca.pem
    next.pem           as mitmproxy-ca.pem; published, does not sign yet (absent most of the time)

The self-signed certificate of a rotated CA is not in mitmproxy-ca.pem: OpenSSL takes the first issuer that is sent,
and would end the chain there. Whoever trusts it needs it not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from connector_store.domain.errors import ParseError
from connector_store.domain.rotation import LIFETIME
from connector_store.trust import load_certificates

SIGNING: Final = "mitmproxy-ca.pem"
PUBLISHED: Final = "ca.crt"
NEXT: Final = "next.pem"

CHAIN_LIMIT: Final = 4
"""Former CAs that are led to; each costs a client some 500 bytes a handshake."""

_SKEW: Final = timedelta(days=1)
"""A new CA is valid since yesterday, for clients whose clock is slow."""

_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


_Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A CA that can sign: `certificate` is what callers trust, `sent` goes with leaf certificates, its own first."""

    key: _Private = field(repr=False)
    certificate: x509.Certificate
    sent: tuple[x509.Certificate, ...]

    @property
    def expires(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()

    def to_pem(self) -> bytes:
        """As `mitmproxy-ca.pem`."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + to_pem(*self.sent)


def load_signer(pem: bytes, anchors: Sequence[x509.Certificate] = ()) -> Signer:
    """Read `mitmproxy-ca.pem` or `next.pem`; ParseError without quoting any of it.

    The certificate that callers trust is that of the same key in `anchors`, else the first one of the PEM.
    """
    sent = load_certificates(pem)
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise ParseError("", "has no private key that can be read; put it before the certificate, in clear") from error
    if not isinstance(key, _Private):
        raise ParseError("", "has a private key of another kind than EC or RSA; take one of those")
    public = key.public_key()
    if public != sent[0].public_key():
        raise ParseError("", "has a private key of another certificate than its first; put that certificate first")
    if not _is_ca(sent[0]):
        raise ParseError("", "has a first certificate that is no CA; take one with basic constraints CA:TRUE")
    trusted = next((each for each in anchors if each.public_key() == public), sent[0])
    return Signer(key=key, certificate=trusted, sent=tuple(sent))


def make_signer(now: datetime) -> Signer:
    """A new CA: EC P-256, its name unlike that of every other, so that no verifier mixes them up."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"connectors-proxy {serial & 0xFFFFFFFF:08x}")])
    until = now + timedelta(seconds=LIFETIME)
    builder = _builder(name, key.public_key(), serial, now - _SKEW, until).issuer_name(name)
    certificate = builder.sign(key, hashes.SHA256())
    return Signer(key=key, certificate=certificate, sent=(certificate,))


def hand_over(old: Signer, new: Signer, now: datetime) -> Signer:
    """`new`, sending what leads whoever trusts `old`, or what `old` led to, to it."""
    issuer = old.sent[0]
    until = min(issuer.not_valid_after_utc, new.certificate.not_valid_after_utc)
    if until <= now:
        return new
    start = max(issuer.not_valid_before_utc, new.certificate.not_valid_before_utc)
    crossed = (
        _builder(new.certificate.subject, new.key.public_key(), x509.random_serial_number(), start, until)
        .issuer_name(issuer.subject)
        .add_extension(_key_identifier(old), critical=False)
        .sign(old.key, hashes.SHA256())
    )
    led_to = [each for each in old.sent if each.issuer != each.subject and each.not_valid_after_utc > now]
    return Signer(key=new.key, certificate=new.certificate, sent=(crossed, *led_to)[:CHAIN_LIMIT])


def published(data: Mapping[str, bytes]) -> tuple[x509.Certificate, ...]:
    """The CA certificates that callers shall trust, the one that signs first; ParseError names the key."""
    found = [signer_of(data, SIGNING).certificate, *_anchors(data)]
    if NEXT in data:
        found.insert(1, signer_of(data, NEXT).certificate)
    return tuple(dict.fromkeys(found))


def signer_of(data: Mapping[str, bytes], key: str) -> Signer:
    """The CA under a key of the Secret; ParseError names that key."""
    anchors = _anchors(data)
    try:
        return load_signer(data[key], anchors)
    except KeyError as error:
        raise ParseError(f"data[{key}]", "is missing") from error
    except ParseError as error:
        raise ParseError(f"data[{key}]", error.reason) from error


def _anchors(data: Mapping[str, bytes]) -> list[x509.Certificate]:
    try:
        return load_certificates(data[PUBLISHED]) if PUBLISHED in data else []
    except ParseError as error:
        raise ParseError(f"data[{PUBLISHED}]", error.reason) from error


def to_pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _builder(
    subject: x509.Name, key: _Public, serial: int, start: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_identifier(issuer: Signer) -> x509.AuthorityKeyIdentifier:
    try:
        held = issuer.sent[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(held)


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
