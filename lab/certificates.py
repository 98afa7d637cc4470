"""Certificates for tests, of all kinds that exist in practice: CAs without key usage, intermediates, other hosts."""

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """A certificate with its key. `chain` has the certificates that a server sends after its own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def combined_pem(self) -> bytes:
        """Key, certificate and chain in one PEM text, as `SSLContext.load_cert_chain` reads them from a file."""
        chain_pem = b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in self.chain)
        return self.key_pem + self.pem + chain_pem

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a TLS server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.combined_pem)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def make_ca(
    name: str = "test CA", *, issuer: KeyPair | None = None, without_key_usage: bool = False, days: int = 1
) -> KeyPair:
    """Create a CA that is valid for `days`, self-signed without `issuer`.

    `without_key_usage` adds only basic constraints, as older tools do.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = build_certificate(_common_name(name), key, issuer.certificate.subject if issuer else None, days=days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if not without_key_usage:
        builder = builder.add_extension(CA_KEY_USAGE, critical=True)
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return KeyPair(certificate=certificate, key=key, chain=(issuer.certificate, *issuer.chain) if issuer else ())


def cross_sign(ca: KeyPair, issuer: KeyPair) -> KeyPair:
    """Create a certificate for the key and the name of `ca` that `issuer` signs, as after a rotation."""
    certificate = ca.certificate
    names = x509.CertificateBuilder().subject_name(certificate.subject).issuer_name(issuer.certificate.subject)
    builder = (
        names.public_key(certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    cross_certificate = builder.sign(issuer.key, hashes.SHA256())
    return KeyPair(certificate=cross_certificate, key=ca.key, chain=(issuer.certificate, *issuer.chain))


def make_leaf(
    ca: KeyPair | None,
    hosts: Sequence[str],
    *,
    name: str = "server",
    expired: bool = False,
    send_chain: bool = True,
    days: int = 1,
) -> KeyPair:
    """Create a server certificate for `hosts` (DNS names and IP addresses), self-signed without `ca`."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = build_certificate(
        _common_name(name), key, ca.certificate.subject if ca else None, days=-1 if expired else days
    )
    if hosts:
        names = x509.SubjectAlternativeName([general_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(ca.key if ca else key, hashes.SHA256())
    return KeyPair(
        certificate=certificate, key=key, chain=(ca.certificate, *ca.chain) if ca is not None and send_chain else ()
    )


CA_KEY_USAGE = x509.KeyUsage(
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


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def build_certificate(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name | None, *, days: int
) -> x509.CertificateBuilder:
    """Return the builder of a certificate for `key` that is valid for `days`, self-signed without `issuer`."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _DAY)
        .not_valid_after(now + days * _DAY)
    )


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
