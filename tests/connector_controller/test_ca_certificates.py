import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from mitmproxy import certs

from connector_controller.ca_certificates import (
    MAX_CHAIN,
    create_ca,
    cross_sign,
    utc,
)
from connector_store.ca_secret import Signer, load_signer, to_pem
from connector_store.domain.status.rotation_plan import CA_LIFETIME
from lab.certificates import make_ca

NOW = datetime.now(UTC).replace(microsecond=0)
HOST = "target.example.com"


def test_a_new_ca_has_the_documented_fields() -> None:
    ca = create_ca(NOW)
    assert isinstance(ca.key, ec.EllipticCurvePrivateKey)
    assert isinstance(ca.key.curve, ec.SECP256R1)
    assert ca.expires_at == NOW.timestamp() + CA_LIFETIME
    assert ca.certificate.not_valid_before_utc < NOW
    usage = ca.certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert ca.certificate.subject != create_ca(NOW).certificate.subject
    assert "PRIVATE" not in repr(ca)
    assert "key" not in repr(ca)


def test_what_is_written_is_read() -> None:
    old, new = create_ca(NOW), create_ca(NOW)
    handed = cross_sign(old, new, NOW)
    back = load_signer(handed.to_pem(), [old.certificate, new.certificate])
    assert back.certificate == new.certificate
    assert back.chain == handed.chain
    assert back.key.private_numbers() == new.key.private_numbers()
    assert utc(0) == datetime(1970, 1, 1, tzinfo=UTC)


def mitm_store(signer: Signer, folder: Path) -> certs.CertStore:
    """Load the file with mitmproxy."""
    folder.mkdir()
    path = folder / "mitmproxy-ca.pem"
    path.write_bytes(signer.to_pem())
    return certs.CertStore.from_files(path, folder / "dhparam.pem")


def verify(signer: Signer, trusted: x509.Certificate, folder: Path) -> None:
    """Run a handshake with a leaf certificate that mitmproxy issues. Raises if the client does not trust it."""
    store = mitm_store(signer, folder)
    entry = store.get_cert(HOST, [x509.DNSName(HOST)])
    chain = to_pem(*(each.to_cryptography() for each in entry.chain_certs))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served = folder / "served.pem"
    key = entry.privatekey.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    served.write_bytes(key + entry.cert.to_pem() + chain)
    server_context.load_cert_chain(served)
    context = ssl.create_default_context(cadata=to_pem(trusted).decode())
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(one, other, server_hostname=HOST)
    server = server_context.wrap_bio(other, one, server_side=True)
    while True:
        try:
            return client.do_handshake()
        except ssl.SSLWantReadError:
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()


def test_clients_that_trust_a_previous_ca_keep_working_and_others_do_not(tmp_path) -> None:
    first = create_ca(NOW)
    second = cross_sign(first, create_ca(NOW), NOW)
    third = cross_sign(second, create_ca(NOW), NOW)
    for number, trusted in enumerate((first, second, third)):
        verify(third, trusted.certificate, tmp_path / str(number))
    with pytest.raises(ssl.SSLCertVerificationError):
        verify(third, create_ca(NOW).certificate, tmp_path / "stranger")


def test_a_users_own_rsa_ca_cross_signs_too(tmp_path) -> None:
    key, certificate = certs.create_ca("someone", "someone", 2048)
    theirs = load_signer(Signer(key=key, certificate=certificate, chain=(certificate,)).to_pem())
    assert isinstance(theirs.key, rsa.RSAPrivateKey)
    verify(theirs, theirs.certificate, tmp_path / "before")
    verify(cross_sign(theirs, create_ca(NOW), NOW), theirs.certificate, tmp_path / "after")


def test_a_ca_without_key_identifiers_cross_signs() -> None:
    bare = make_ca(without_key_usage=True)
    handed = cross_sign(
        Signer(key=bare.key, certificate=bare.certificate, chain=(bare.certificate,)), create_ca(NOW), NOW
    )
    handed.chain[0].verify_directly_issued_by(bare.certificate)


def test_a_cross_certificate_expires_with_the_first_of_the_two_cas() -> None:
    old = create_ca(NOW - timedelta(days=700))
    handed = cross_sign(old, create_ca(NOW), NOW)
    assert handed.chain[0].not_valid_after_utc == old.certificate.not_valid_after_utc
    handed.chain[0].verify_directly_issued_by(old.certificate)


def test_an_expired_ca_does_not_cross_sign() -> None:
    new = create_ca(NOW)
    assert cross_sign(create_ca(NOW - timedelta(seconds=CA_LIFETIME, days=1)), new, NOW) == new


def test_expired_certificates_are_not_in_the_chain() -> None:
    ending = create_ca(NOW - timedelta(seconds=CA_LIFETIME) + timedelta(days=1))
    theirs, crossed = create_ca(NOW), cross_sign(ending, create_ca(NOW), NOW).chain[0]
    chain = Signer(key=theirs.key, certificate=theirs.certificate, chain=(theirs.certificate, crossed))
    assert len(cross_sign(chain, create_ca(NOW), NOW).chain) == 2
    later = NOW + timedelta(days=2)
    assert len(cross_sign(chain, create_ca(later), later).chain) == 1


def test_the_chain_is_bounded() -> None:
    signer = create_ca(NOW)
    for _ in range(MAX_CHAIN + 2):
        signer = cross_sign(signer, create_ca(NOW), NOW)
    assert len(signer.chain) == MAX_CHAIN
