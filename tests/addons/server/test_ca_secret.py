import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from addons.server.ca_secret import CaSecret, parse_authority
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.status.rotation_plan import PUBLISHED_CA_KEY, SIGNING_CA_KEY
from lab.certificates import KeyPair, cross_sign, make_ca

OLD = make_ca("old")
NEW = make_ca("new")
CROSSED = cross_sign(NEW, OLD)


def secret(**data: bytes) -> dict[str, object]:
    names = {"signing": SIGNING_CA_KEY, "published": PUBLISHED_CA_KEY}
    return {"data": {names[each]: base64.b64encode(value).decode() for each, value in data.items()}}


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.rfc4514_string())


def test_the_secret_has_a_signing_key_and_trusted_certificates() -> None:
    authority = parse_authority(secret(signing=NEW.combined_pem))
    assert authority.published == NEW.pem
    leaf = authority.signer.get_cert("h", [x509.DNSName("h")]).cert.to_cryptography()
    leaf.verify_directly_issued_by(NEW.certificate)


def test_during_a_rotation_both_cas_are_trusted_and_the_cross_signed_certificate_is_sent() -> None:
    authority = parse_authority(secret(signing=CROSSED.combined_pem, published=NEW.pem + OLD.pem))
    assert authority.published == NEW.pem + OLD.pem
    entry = authority.signer.get_cert("h", [x509.DNSName("h")])
    assert [common_name(each.to_cryptography()) for each in entry.chain_certs] == ["CN=new", "CN=old"]
    entry.cert.to_cryptography().verify_directly_issued_by(CROSSED.certificate)


def foreign_key() -> bytes:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def locked_key(ca: KeyPair) -> bytes:
    return ca.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        pytest.param({}, "is missing", id="no data"),
        pytest.param({"data": {SIGNING_CA_KEY: "s3cret!"}}, "not base64", id="no base64"),
        pytest.param({"data": {SIGNING_CA_KEY: 5}}, "not a string", id="no text"),
        pytest.param(secret(signing=b"s3cret"), "not a PEM bundle", id="no PEM"),
        pytest.param(secret(signing=NEW.pem), "no private key", id="no key"),
        pytest.param(secret(signing=NEW.key_pem), "not a PEM bundle", id="no certificate"),
        pytest.param(secret(signing=locked_key(NEW) + NEW.pem), "no private key", id="a key with a password"),
        pytest.param(secret(signing=foreign_key() + NEW.pem), "neither EC nor RSA", id="an Ed25519 key"),
        pytest.param(secret(signing=OLD.key_pem + NEW.pem), "another certificate", id="a key of another CA"),
        pytest.param(secret(signing=NEW.combined_pem, published=b"x"), "not a PEM bundle", id="no PEM to publish"),
    ],
)
def test_a_secret_that_cannot_sign_is_reported_without_its_contents(raw: dict[str, object], says: str) -> None:
    with pytest.raises(ParseError, match=says) as caught:
        parse_authority(raw)
    assert "s3cret" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def test_the_last_valid_ca_stays_in_use(caplog: pytest.LogCaptureFixture) -> None:
    followed = CaSecret(ObjectKey("sys", "ca"))
    assert (followed.signer, followed.published) == (None, None)
    followed.on_change(None)
    assert "not ready until it is valid" in caplog.text
    followed.on_change(secret(signing=OLD.combined_pem))
    first = followed.signer
    assert first is not None
    caplog.clear()
    for broken in (None, secret(signing=b"x")):
        followed.on_change(broken)
        assert followed.signer is first
    assert caplog.text.count("the last CA stays in use") == 2
    followed.on_change(secret(signing=NEW.combined_pem))
    assert followed.published == NEW.pem
    assert isinstance(followed.signer.default_privatekey, ec.EllipticCurvePrivateKey) if followed.signer else False
