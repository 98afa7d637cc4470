"""Creation and cross-signing of the proxy's CAs. `ca_secret` has their format in the Secret.

mitmproxy-ca.pem does not contain the self-signed certificate of a rotated CA. OpenSSL uses the first issuer in the
chain and would end it there. A client that trusts this certificate does not need it.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from connector_store.ca_secret import Signer
from connector_store.domain.status.rotation_plan import CA_LIFETIME

MAX_CHAIN: Final = 4
"""Maximum length of the chain of previous CAs. Each costs a client about 500 bytes in a handshake."""

_SKEW: Final = timedelta(days=1)
"""Time before now from which a new CA is valid, for clients whose clock is slow."""

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


_PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def create_ca(now: datetime) -> Signer:
    """Create a CA: EC P-256, with a unique name, so that verifiers do not confuse two CAs."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"connectors-proxy {serial & 0xFFFFFFFF:08x}")])
    not_after = now + timedelta(seconds=CA_LIFETIME)
    builder = _certificate_builder(name, key.public_key(), serial, now - _SKEW, not_after).issuer_name(name)
    certificate = builder.sign(key, hashes.SHA256())
    return Signer(key=key, certificate=certificate, chain=(certificate,))


def cross_sign(old: Signer, new: Signer, now: datetime) -> Signer:
    """Return `new` with a chain that clients verify if they trust `old` or one of the CAs before it."""
    issuer = old.chain[0]
    not_after = min(issuer.not_valid_after_utc, new.certificate.not_valid_after_utc)
    if not_after <= now:
        return new
    not_before = max(issuer.not_valid_before_utc, new.certificate.not_valid_before_utc)
    cross_certificate = (
        _certificate_builder(
            new.certificate.subject, new.key.public_key(), x509.random_serial_number(), not_before, not_after
        )
        .issuer_name(issuer.subject)
        .add_extension(_key_identifier(old), critical=False)
        .sign(old.key, hashes.SHA256())
    )
    previous_chain = [each for each in old.chain if each.issuer != each.subject and each.not_valid_after_utc > now]
    return Signer(key=new.key, certificate=new.certificate, chain=(cross_certificate, *previous_chain)[:MAX_CHAIN])


def utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _certificate_builder(
    subject: x509.Name, key: _PublicKey, serial: int, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_identifier(issuer: Signer) -> x509.AuthorityKeyIdentifier:
    try:
        subject_key = issuer.chain[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key)
