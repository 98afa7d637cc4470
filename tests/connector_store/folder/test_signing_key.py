"""The key that signs callers' tokens: its file, and the form of the tokens."""

import base64
import concurrent.futures
import os
import stat
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted
from connector_store.folder import signing_key
from connector_store.folder.caller_tokens import TokenAccess
from connector_store.folder.signing_key import KEY_FILE, SigningKey

KEY = ObjectKey("team-a", "k8s")
AUDIENCE = "connectors-proxy"
PRIVATE = ec.generate_private_key(ec.SECP256R1())


def test_a_token_is_a_jwt_that_a_library_verifies() -> None:
    """A number of a signature can begin with zeros: of 600 signatures, some do."""
    signer = SigningKey(PRIVATE)
    for second in range(600):
        token = signer.issue(KEY, ttl=60, now=second + 0.5, audience=AUDIENCE)
        options = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, signer.public_key, ["ES256"], options=options, audience=AUDIENCE)  # type: ignore[arg-type]  # a TypedDict
        assert len(claims.pop("jti")) == 16
        assert claims == {
            "iss": "kubernetes-connector", "aud": AUDIENCE, "sub": "team-a/k8s", "iat": second, "exp": second + 60
        }  # fmt: skip
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT"}


def test_the_key_is_created_once_for_its_owner_only(tmp_path: Path) -> None:
    first = SigningKey.load_or_create(tmp_path / "conf")
    again = SigningKey.load_or_create(tmp_path / "conf")
    assert stat.S_IMODE((tmp_path / "conf" / KEY_FILE).stat().st_mode) == 0o600
    assert [each.name for each in (tmp_path / "conf").iterdir()] == [KEY_FILE]
    token = first.issue(KEY, ttl=60, now=time.time(), audience=AUDIENCE)
    assert isinstance(
        TokenAccess(again.public_key, audience=AUDIENCE, recheck=30, now=time.time).check_cached(token, KEY), Granted
    )


def test_starting_at_once_gives_one_key(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: SigningKey.load_or_create(tmp_path).public_key.public_numbers(), range(8)))
    assert len(set(keys)) == 1


def _pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _with_other_number(pem: bytes) -> bytes:
    der = bytearray(base64.b64decode(b"".join(pem.split(b"\n")[1:-2])))
    der[40] ^= 1
    return b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(der) + b"\n-----END PRIVATE KEY-----\n"


def test_a_key_of_this_program_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    for _ in range(20):
        expected = SigningKey.load_or_create(tmp_path).public_key
        pem = (tmp_path / KEY_FILE).read_bytes()
        own, by_library = signing_key._parse_own_key(pem), signing_key._parse_key(tmp_path, pem)
        assert own is not None
        assert own.private_numbers() == by_library.private_numbers()
        assert own.public_key() == expected
        (tmp_path / KEY_FILE).unlink()


@pytest.mark.parametrize("form", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8])
def test_a_key_of_another_program_is_read(tmp_path: Path, form: serialization.PrivateFormat) -> None:
    pem = PRIVATE.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (tmp_path / KEY_FILE).write_bytes(b"\n" + pem)
    (tmp_path / KEY_FILE).chmod(0o600)
    assert SigningKey.load_or_create(tmp_path).public_key == PRIVATE.public_key()


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        pytest.param(b"", 0o600, "not a PEM private key", id="an empty file"),
        pytest.param(_pem(PRIVATE)[:80] + _pem(PRIVATE)[-26:], 0o600, "not a PEM private key", id="a key that is cut"),
        pytest.param(_with_other_number(_pem(PRIVATE)), 0o600, "not a PEM private key", id="another private number"),
        pytest.param(b"-----BEGIN PRIVATE KEY-----?-----END PRIVATE KEY-----", 0o600, "not a PEM", id="no base64"),
        pytest.param(_pem(PRIVATE), 0o644, "chmod 600", id="a key that others may read"),
        pytest.param(_pem(PRIVATE), 0o640, "chmod 600", id="a key that its group may read"),
        pytest.param(_pem(ec.generate_private_key(ec.SECP384R1())), 0o600, "not an EC P-256 key", id="another curve"),
        pytest.param(_pem(rsa.generate_private_key(65537, 2048)), 0o600, "not an EC P-256 key", id="an RSA key"),
    ],
)
def test_a_key_that_cannot_be_used_says_what_to_do(tmp_path: Path, content: bytes, mode: int, reason: str) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ParseError, match=reason):
        SigningKey.load_or_create(tmp_path)


def test_a_confdir_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ParseError, match="file"):
        SigningKey.load_or_create(tmp_path / "file" / "conf")


def test_a_key_that_another_process_created_meanwhile_is_used(tmp_path: Path) -> None:
    signing_key._create_key(tmp_path / KEY_FILE)
    before = (tmp_path / KEY_FILE).read_bytes()
    signing_key._create_key(tmp_path / KEY_FILE)
    assert (tmp_path / KEY_FILE).read_bytes() == before
    assert os.listdir(tmp_path) == [KEY_FILE]  # noqa: PTH208 - hidden drafts count too
