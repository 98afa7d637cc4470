import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.client_certificate import (
    CLIENT_CERTIFICATE,
    KIND,
    MAX_PEM_BYTES,
    ClientCertificate,
    client_certificate_of,
)
from lab.certificates import make_ca, make_leaf

CA = make_ca()
LEAF = make_leaf(CA, [], name="admin")
GOOD = {"tls.crt": LEAF.pem + CA.pem, "tls.key": LEAF.key_pem}
EC = LEAF.key_pem.replace(b"PRIVATE KEY", b"EC PRIVATE KEY")
LOCKED = LEAF.key_pem.replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY")
OLD_LOCKED = EC.replace(b"-----\n", b"-----\nProc-Type: 4,ENCRYPTED\n", 1)


def test_chain_and_key_are_read_and_hidden() -> None:
    certificate = CLIENT_CERTIFICATE.read(GOOD)
    assert isinstance(certificate, ClientCertificate)
    assert (certificate.chain, certificate.key) == (LEAF.pem + CA.pem, LEAF.key_pem)
    assert (certificate.authorization, certificate.expires_at) == (None, None)
    assert "PRIVATE" not in repr(certificate)
    assert KIND.secret_types == (CLIENT_CERTIFICATE,)


def test_certificates_with_the_same_chain_and_key_are_equal() -> None:
    one = ClientCertificate(LEAF.pem, LEAF.key_pem)
    assert one == ClientCertificate(LEAF.pem, LEAF.key_pem, 7.0)
    assert len({one, ClientCertificate(LEAF.pem, LEAF.key_pem, 7.0)}) == 1
    assert one != ClientCertificate(LEAF.pem, CA.key_pem)
    assert one != ClientCertificate(CA.pem, LEAF.key_pem)
    assert client_certificate_of(one) is one
    assert client_certificate_of(BearerToken("t")) is client_certificate_of(None) is None


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(LEAF.key_pem, id="PKCS #8"),
        pytest.param(EC, id="SEC 1"),
        pytest.param(b"Bag Attributes\n" + LEAF.key_pem + LEAF.pem, id="text before it and a certificate after it"),
    ],
)
def test_keys(key: bytes) -> None:
    certificate = CLIENT_CERTIFICATE.read(GOOD | {"tls.key": key})
    assert isinstance(certificate, ClientCertificate)
    assert certificate.key.startswith(b"-----BEGIN ")
    assert b"CERTIFICATE" not in certificate.key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"tls.crt": b""}, 'key "tls.crt" has no whole PEM certificate', id="no certificate"),
        pytest.param({"tls.crt": LEAF.key_pem}, 'key "tls.crt" has no whole PEM certificate', id="the key there"),
        pytest.param({"tls.crt": LEAF.pem[:-40]}, "no whole PEM", id="a truncated certificate"),
        pytest.param({"tls.key": b""}, 'key "tls.key" has no whole PEM private key', id="no key"),
        pytest.param({"tls.key": LEAF.pem}, 'key "tls.key" has no whole PEM private key', id="a certificate for a key"),
        pytest.param({"tls.key": LEAF.key_pem[:-40]}, "no whole PEM private key", id="a truncated key"),
        pytest.param({"tls.key": LOCKED}, "is encrypted; put it there without a passphrase", id="an encrypted key"),
        pytest.param({"tls.key": OLD_LOCKED}, "is encrypted", id="an encrypted key of the old form"),
        pytest.param({"tls.crt": b"x" * (MAX_PEM_BYTES + 1)}, 'key "tls.crt" is longer than', id="a long chain"),
        pytest.param({"tls.key": b"x" * (MAX_PEM_BYTES + 1)}, 'key "tls.key" is longer than', id="a long key"),
    ],
)
def test_an_unusable_key_is_named_and_not_quoted(change: dict[str, bytes], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        CLIENT_CERTIFICATE.read(GOOD | change)
    assert message in str(caught.value)
    assert LEAF.key_pem.splitlines()[1].decode() not in str(caught.value)


@given(st.binary(), st.binary())
def test_every_content_is_a_credential_or_a_parse_error(chain: bytes, key: bytes) -> None:
    with pytest.raises(ParseError):
        CLIENT_CERTIFICATE.read({"tls.crt": chain, "tls.key": key})
