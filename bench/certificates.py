"""Temporary certificate authorities for one run of the benchmark."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthority:
    """A CA. `cert` is the PEM file of its certificate; `cert_and_key` also has the key, as squid needs it."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    cert: Path
    cert_and_key: Path

    def issue(self, file: Path) -> Path:
        """Write a server certificate for localhost and 127.0.0.1 with its key to `file`, and return the path."""
        key = _create_key()
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        cert = (
            _builder(_name("localhost"), self.name, key)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        _write(file, cert, key)
        return file


def create_ca(directory: Path, name: str) -> CertificateAuthority:
    key, subject = _create_key(), _name(f"bench {name}")
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    cert = (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, cert_and_key = directory / f"{name}-ca.pem", directory / f"{name}-ca-and-key.pem"
    _write(cert_and_key, cert, key)
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return CertificateAuthority(name=subject, key=key, cert=cert_file, cert_and_key=cert_and_key)


def _create_key() -> ec.EllipticCurvePrivateKey:
    # The same kind for every peer, and what an operator would choose: an RSA signature costs twenty times as much.
    return ec.generate_private_key(ec.SECP256R1())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
    )


def _write(file: Path, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    file.touch(mode=0o600)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(cert.public_bytes(serialization.Encoding.PEM) + pem)
