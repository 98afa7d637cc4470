import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from connector_store.ca_secret import (
    Signer,
    has_signer,
    load_signer,
    published_certificates,
    read_data,
    read_signer,
    to_pem,
    trusted_certificates,
)
from connector_store.domain.base.errors import ParseError
from connector_store.domain.status.rotation_plan import NEXT_CA_KEY, PUBLISHED_CA_KEY, SIGNING_CA_KEY
from lab.certificates import KeyPair, cross_sign, make_ca, make_leaf

HOST = "target.example.com"


def signer(issued: KeyPair) -> Signer:
    return Signer(key=issued.key, certificate=issued.certificate, chain=(issued.certificate, *issued.chain))


def test_a_written_signer_is_read_back_and_does_not_show_its_key() -> None:
    written = signer(make_ca())
    back = load_signer(written.to_pem())
    assert back.certificate == written.certificate
    assert back.chain == written.chain
    assert back.expires_at == written.certificate.not_valid_after_utc.timestamp()
    assert "key" not in repr(back)


def test_our_keys_of_the_secret_are_decoded_and_others_are_skipped() -> None:
    raw = {"data": {SIGNING_CA_KEY: base64.b64encode(b"a").decode(), NEXT_CA_KEY: "", "other": "?"}}
    assert read_data(raw) == {SIGNING_CA_KEY: b"a"}
    assert read_data({}) == read_data({"data": None}) == {}


@pytest.mark.parametrize("value", [pytest.param("s3cret!", id="no base64"), pytest.param(5, id="no text")])
def test_a_key_that_cannot_be_decoded_is_named_and_not_quoted(value: object) -> None:
    with pytest.raises(ParseError, match=r"data\[ca\.crt\]") as caught:
        read_data({"data": {PUBLISHED_CA_KEY: value}})
    assert "s3cret" not in str(caught.value)


def test_published_are_the_signing_one_the_next_and_the_former_once_each() -> None:
    first, second = make_ca("old"), make_ca("new")
    old, new = signer(first), signer(second)
    assert published_certificates({SIGNING_CA_KEY: old.to_pem()}) == (old.certificate,)
    announced = {SIGNING_CA_KEY: old.to_pem(), NEXT_CA_KEY: new.to_pem()}
    both = (old.certificate, new.certificate)
    assert published_certificates(announced) == both
    assert published_certificates(announced | {PUBLISHED_CA_KEY: to_pem(*both)}) == both
    switched = {SIGNING_CA_KEY: cross_sign(second, first).combined_pem, PUBLISHED_CA_KEY: to_pem(*both)}
    assert published_certificates(switched) == (new.certificate, old.certificate)
    assert read_signer(switched, SIGNING_CA_KEY).certificate == new.certificate


def test_a_signer_of_a_tls_secret_is_read_and_the_proxys_own_key_wins() -> None:
    ca, other = make_ca("cert-manager"), make_ca("other")
    data = {"tls.crt": ca.pem.rstrip(), "tls.key": ca.key_pem.rstrip(), "ca.crt": ca.pem}
    assert has_signer(data)
    assert read_signer(data, SIGNING_CA_KEY).certificate == ca.certificate
    assert published_certificates(data) == (ca.certificate,)
    both = data | {SIGNING_CA_KEY: other.combined_pem}
    assert read_signer(both, SIGNING_CA_KEY).certificate == other.certificate
    assert not has_signer({"tls.crt": ca.pem})
    with pytest.raises(ParseError, match=r"data\[mitmproxy-ca.pem\]: is missing"):
        read_signer({"tls.crt": ca.pem}, SIGNING_CA_KEY)
    with pytest.raises(ParseError, match=r"data\[tls.crt\]: has a private key of another certificate"):
        read_signer(data | {"tls.key": other.key_pem}, SIGNING_CA_KEY)
    with pytest.raises(ParseError, match=r"data\[next.pem\]: is missing"):
        read_signer(data, NEXT_CA_KEY)


def test_a_broken_next_ca_does_not_affect_the_signing_ca() -> None:
    ca = make_ca()
    data = {SIGNING_CA_KEY: ca.combined_pem, NEXT_CA_KEY: b"broken"}
    assert trusted_certificates(data) == (ca.certificate,)
    with pytest.raises(ParseError, match=r"data\[next.pem\]"):
        published_certificates(data)


def test_published_certificates_that_cannot_be_read_are_named() -> None:
    with pytest.raises(ParseError, match=r"data\[ca.crt\]: not a PEM bundle"):
        published_certificates({SIGNING_CA_KEY: make_ca().combined_pem, PUBLISHED_CA_KEY: b"hello"})


GOOD = make_ca()
LEAF = make_leaf(GOOD, [HOST])
ED = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
LOCKED = GOOD.key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
)


@pytest.mark.parametrize(
    ("pem", "reason"),
    [
        pytest.param(b"", "not a PEM bundle", id="empty"),
        pytest.param(GOOD.key_pem, "not a PEM bundle", id="a key alone"),
        pytest.param(GOOD.pem, "no private key", id="a certificate alone"),
        pytest.param(LOCKED + GOOD.pem, "no private key", id="a key with a passphrase"),
        pytest.param(ED + GOOD.pem, "neither EC nor RSA", id="a key of another kind"),
        pytest.param(LEAF.key_pem + GOOD.pem, "another certificate", id="the key of another certificate"),
        pytest.param(GOOD.key_pem + LEAF.pem + GOOD.pem, "another certificate", id="the leaf before the CA"),
        pytest.param(LEAF.key_pem + LEAF.pem, "not a CA", id="a leaf certificate"),
        pytest.param(
            (plain := make_leaf(None, ["h"])).key_pem + plain.pem, "not a CA", id="a self-signed server certificate"
        ),
    ],
)
def test_a_ca_that_cannot_sign_is_refused_and_not_quoted(pem, reason) -> None:
    with pytest.raises(ParseError, match=reason) as caught:
        read_signer({NEXT_CA_KEY: pem}, NEXT_CA_KEY)
    assert caught.value.path == "data[next.pem]"
    assert "-----" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ParseError, match=r"data\[mitmproxy-ca.pem\]: is missing"):
        read_signer({}, SIGNING_CA_KEY)
