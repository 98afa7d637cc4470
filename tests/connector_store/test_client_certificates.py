from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connector_store.client_certificates import validate_secret
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.client_certificate import CLIENT_CERTIFICATE_SECRET, ClientCertificate
from connector_store.domain.objects.models import Secret
from lab.certificates import KeyPair, make_ca, make_leaf

CA = make_ca()
LEAF = make_leaf(CA, [], name="admin")
ENDED = make_leaf(CA, [], name="admin", expired=True)


def secret(chain: bytes, key: bytes) -> Secret:
    credential = ClientCertificate(chain, key)
    return Secret(key=ObjectKey("a", "s"), type=CLIENT_CERTIFICATE_SECRET, credential=credential)


def key_of(private: dsa.DSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def end(issued: KeyPair) -> float:
    return issued.certificate.not_valid_after_utc.timestamp()


def test_a_certificate_gets_its_expiry_even_if_it_has_expired() -> None:
    validated = validate_secret(secret(LEAF.pem + CA.pem, LEAF.key_pem))
    assert validated.credential is not None
    assert validated.credential.expires_at == min(end(LEAF), end(CA))
    assert validated.credential.issued_at == LEAF.certificate.not_valid_before_utc.timestamp()
    over = validate_secret(secret(LEAF.pem + ENDED.pem, LEAF.key_pem))
    assert over.credential is not None
    assert over.credential.expires_at == end(ENDED), "the first of the chain to end"


@pytest.mark.parametrize(
    ("chain", "key", "problem"),
    [
        pytest.param(LEAF.pem, CA.key_pem, 'key "tls.key" belongs to another certificate', id="a key of another"),
        pytest.param(CA.pem + LEAF.pem, LEAF.key_pem, "another certificate than the first", id="the issuer first"),
        pytest.param(LEAF.pem, b"-----BEGIN PRIVATE KEY-----\n", 'key "tls.key" cannot be read', id="no key"),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n",
            LEAF.key_pem,
            'key "tls.crt" has a certificate that cannot be read',
            id="no certificate",
        ),
        pytest.param(
            LEAF.pem,
            key_of(dsa.generate_private_key(1024)),  # noqa: S505 - one of 2048 bits takes seconds, and no TLS takes either
            "that TLS does not take",
            id="a DSA key",
        ),
        pytest.param(
            LEAF.pem, key_of(ed25519.Ed25519PrivateKey.generate()), "another certificate", id="a key of another kind"
        ),
    ],
)
def test_a_key_that_does_not_match_its_certificate_is_a_problem_of_the_secret(
    chain: bytes, key: bytes, problem: str
) -> None:
    validated = validate_secret(secret(chain, key))
    assert validated.credential is None
    assert problem in str(validated.credential_problem)
    assert "-----" not in str(validated.credential_problem)


def test_other_objects_are_not_changed() -> None:
    plain = replace(secret(LEAF.pem, LEAF.key_pem), credential=None)
    assert validate_secret(plain) is plain
    assert validate_secret("x") == "x"
