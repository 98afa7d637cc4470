import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from mitmproxy import certs

from connector_controller.authority import (
    CHAIN_LIMIT,
    NEXT,
    PUBLISHED,
    SIGNING,
    Signer,
    hand_over,
    load_signer,
    make_signer,
    published,
    signer_of,
    to_pem,
    utc,
)
from connector_store.domain.errors import ParseError
from connector_store.domain.rotation import LIFETIME
from lab.certificates import make_ca, make_leaf

NOW = datetime.now(UTC).replace(microsecond=0)
HOST = "target.example.com"


def test_a_new_ca_is_as_documented() -> None:
    made = make_signer(NOW)
    assert isinstance(made.key, ec.EllipticCurvePrivateKey)
    assert isinstance(made.key.curve, ec.SECP256R1)
    assert made.expires == NOW.timestamp() + LIFETIME
    assert made.certificate.not_valid_before_utc < NOW
    usage = made.certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert made.certificate.subject != make_signer(NOW).certificate.subject
    assert "PRIVATE" not in repr(made)
    assert "key" not in repr(made)


def test_what_is_written_is_read() -> None:
    old, new = make_signer(NOW), make_signer(NOW)
    handed = hand_over(old, new, NOW)
    back = load_signer(handed.to_pem(), [old.certificate, new.certificate])
    assert back.certificate == new.certificate
    assert back.sent == handed.sent
    assert back.key.private_numbers() == new.key.private_numbers()
    assert utc(0) == datetime(1970, 1, 1, tzinfo=UTC)


def mitm_store(signer: Signer, folder: Path) -> certs.CertStore:
    """What mitmproxy makes of the file."""
    folder.mkdir()
    path = folder / "mitmproxy-ca.pem"
    path.write_bytes(signer.to_pem())
    return certs.CertStore.from_files(path, folder / "dhparam.pem")


def verify(signer: Signer, trusted: x509.Certificate, folder: Path) -> None:
    """A handshake with a leaf certificate that mitmproxy issues; raises where it is not trusted."""
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


def test_whoever_trusts_one_of_the_cas_before_goes_on_and_strangers_do_not(tmp_path) -> None:
    first = make_signer(NOW)
    second = hand_over(first, make_signer(NOW), NOW)
    third = hand_over(second, make_signer(NOW), NOW)
    for number, trusted in enumerate((first, second, third)):
        verify(third, trusted.certificate, tmp_path / str(number))
    with pytest.raises(ssl.SSLCertVerificationError):
        verify(third, make_signer(NOW).certificate, tmp_path / "stranger")


def test_an_rsa_ca_of_a_users_own_hands_over_too(tmp_path) -> None:
    key, certificate = certs.create_ca("someone", "someone", 2048)
    theirs = load_signer(Signer(key=key, certificate=certificate, sent=(certificate,)).to_pem())
    assert isinstance(theirs.key, rsa.RSAPrivateKey)
    verify(theirs, theirs.certificate, tmp_path / "before")
    verify(hand_over(theirs, make_signer(NOW), NOW), theirs.certificate, tmp_path / "after")


def test_a_ca_without_key_identifiers_hands_over() -> None:
    bare = make_ca(bare=True)
    handed = hand_over(
        Signer(key=bare.key, certificate=bare.certificate, sent=(bare.certificate,)), make_signer(NOW), NOW
    )
    handed.sent[0].verify_directly_issued_by(bare.certificate)


def test_a_cross_signed_certificate_ends_with_the_first_of_the_two() -> None:
    old = make_signer(NOW - timedelta(days=700))
    handed = hand_over(old, make_signer(NOW), NOW)
    assert handed.sent[0].not_valid_after_utc == old.certificate.not_valid_after_utc
    handed.sent[0].verify_directly_issued_by(old.certificate)


def test_an_old_ca_that_has_ended_leads_nobody() -> None:
    new = make_signer(NOW)
    assert hand_over(make_signer(NOW - timedelta(seconds=LIFETIME, days=1)), new, NOW) == new


def test_the_chain_is_bounded() -> None:
    signer = make_signer(NOW)
    for _ in range(CHAIN_LIMIT + 2):
        signer = hand_over(signer, make_signer(NOW), NOW)
    assert len(signer.sent) == CHAIN_LIMIT


def test_published_are_the_signing_one_the_next_and_the_former_once_each() -> None:
    old, new = make_signer(NOW), make_signer(NOW)
    assert published({SIGNING: old.to_pem()}) == (old.certificate,)
    announced = {SIGNING: old.to_pem(), NEXT: new.to_pem()}
    both = (old.certificate, new.certificate)
    assert published(announced) == both
    assert published(announced | {PUBLISHED: to_pem(*both)}) == both
    switched = {SIGNING: hand_over(old, new, NOW).to_pem(), PUBLISHED: to_pem(*both)}
    assert published(switched) == (new.certificate, old.certificate)
    assert signer_of(switched, SIGNING).certificate == new.certificate


def test_published_certificates_that_cannot_be_read_are_named() -> None:
    with pytest.raises(ParseError, match=r"data\[ca.crt\]: not a PEM bundle"):
        published({SIGNING: make_signer(NOW).to_pem(), PUBLISHED: b"hello"})


GOOD = make_ca()
LEAF = make_leaf(GOOD, [HOST])
ED = ed25519.Ed25519PrivateKey.generate().private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
LOCKED = GOOD.key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
)


@pytest.mark.parametrize(
    ("pem", "says"),
    [
        pytest.param(b"", "not a PEM bundle", id="empty"),
        pytest.param(GOOD.key_pem, "not a PEM bundle", id="a key alone"),
        pytest.param(GOOD.pem, "no private key", id="a certificate alone"),
        pytest.param(LOCKED + GOOD.pem, "no private key", id="a key with a passphrase"),
        pytest.param(ED + GOOD.pem, "another kind", id="a key of another kind"),
        pytest.param(LEAF.key_pem + GOOD.pem, "another certificate", id="the key of another certificate"),
        pytest.param(GOOD.key_pem + LEAF.pem + GOOD.pem, "another certificate", id="the leaf before the CA"),
        pytest.param(LEAF.key_pem + LEAF.pem, "no CA", id="a leaf certificate"),
        pytest.param(
            (plain := make_leaf(None, ["h"])).key_pem + plain.pem, "no CA", id="a self-signed server certificate"
        ),
    ],
)
def test_what_cannot_sign_is_refused_without_quoting_it(pem, says) -> None:
    with pytest.raises(ParseError, match=says) as caught:
        signer_of({NEXT: pem}, NEXT)
    assert caught.value.path == "data[next.pem]"
    assert "-----" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ParseError, match=r"data\[mitmproxy-ca.pem\]: is missing"):
        signer_of({}, SIGNING)
