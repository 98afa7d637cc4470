"""Key that signs callers' tokens in folder mode: short-lived JWTs (RFC 7519) with ES256 (RFC 7518 section 3.4).

`connectorctl` issues a token for one Connector, and the proxy verifies it. Both read the key from mitmproxy's confdir,
and the first of them creates it. Claims: `iss`, `aud`, `sub` (NAMESPACE/NAME), `iat`, `exp`, `jti`, and `caller` for a
named caller. This module is on the path of `connectorctl credential`, which kubectl runs often, so it imports no more
than it needs.
"""

import base64
import json
import os
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey

KEY_FILE: Final = "connector-callers-key.pem"
ISSUER: Final = "kubernetes-connector"
ALGORITHM: Final = "ES256"
MAX_TTL: Final = 24 * 3600
"""Maximum lifetime in seconds. A token is meant for one job. A longer job needs another token."""
MAX_CALLER_NAME: Final = 253
"""Maximum number of characters of a caller's name."""
_MAX_KEY_BYTES: Final = 16 * 1024
_PEM_START: Final = b"-----BEGIN PRIVATE KEY-----"
_PEM_END: Final = b"-----END PRIVATE KEY-----"
_P256_START: Final = bytes.fromhex("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420")
"""DER of a PKCS #8 key for P-256 up to the private number (RFC 5958, RFC 5915), as `_create_key` writes it."""
_DER_SIZE: Final = 138
_NUMBER_SIZE: Final = 32
"""Bytes of each of the two numbers of a signature with P-256."""


class SigningKey:
    """Key that signs callers' tokens: EC P-256, PKCS #8 PEM, mode 0600."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._private_key = private_key
        self.public_key: Final = private_key.public_key()

    @classmethod
    def load_or_create(cls, confdir: Path) -> Self:
        """Read the key in `confdir`, and create it first if it is absent. Raises ParseError if it is not usable.

        Two processes that start at once get the same key, because the file is written completely before it gets its
        name.
        """
        path = confdir / KEY_FILE
        try:
            if not path.exists():
                _create_key(path)
            return cls(_read_key(path))
        except OSError as error:
            raise ParseError(str(path), f"{error.strerror}; make it a file that only this user can read") from error

    def issue(self, key: ObjectKey, *, ttl: int, now: float, audience: str, caller: str | None = None) -> str:
        """Issue a token for Connector `key`. It is valid for `ttl` seconds from `now` (unix seconds).

        `caller` is the name of the caller. Callers without a name share that of the Connector.
        """
        if not 0 < ttl <= MAX_TTL:
            raise ParseError("ttl", f"not between 1 s and {MAX_TTL} s")
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "sub": str(key),
            "iat": int(now),
            "exp": int(now) + ttl,
            "jti": _encode(os.urandom(12)),
            **({"caller": parse_caller_name(caller)} if caller is not None else {}),
        }
        header = {"alg": ALGORITHM, "typ": "JWT"}
        signed = ".".join(_encode(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._private_key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(_NUMBER_SIZE) + s.to_bytes(_NUMBER_SIZE))}"


def parse_caller_name(name: str) -> str:
    """Return the name of a caller. Raises ParseError for one that could be taken for another kind of caller."""
    if not (name and name.isprintable() and name == name.strip() and len(name) <= MAX_CALLER_NAME):
        raise ParseError("", f"a caller's name has 1 to {MAX_CALLER_NAME} printable characters, without spaces around")
    if "/" in name or name.startswith("system:"):
        raise ParseError("", "a caller's name contains no / and does not begin with system:")
    return name


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _create_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = path.with_name(f".{KEY_FILE}.{os.urandom(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    with path.open("rb") as stream:
        if os.fstat(stream.fileno()).st_mode & 0o077:
            raise ParseError(str(path), f"users other than its owner may use it; run: chmod 600 {path}")
        pem = stream.read(_MAX_KEY_BYTES)
    return _parse_own_key(pem) or _parse_key(path, pem)


def _parse_own_key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    """Parse a key that `_create_key` wrote. The loader of the library for all formats takes 60 ms to import."""
    text = pem.strip()
    if not (text.startswith(_PEM_START) and text.endswith(_PEM_END)):
        return None
    try:
        der = base64.b64decode(b"".join(text[len(_PEM_START) : -len(_PEM_END)].split()), validate=True)
        if len(der) != _DER_SIZE or not der.startswith(_P256_START):
            return None
        private_key = ec.derive_private_key(int.from_bytes(der[len(_P256_START) :][:_NUMBER_SIZE]), ec.SECP256R1())
    except ValueError:
        return None
    public = private_key.public_key().public_numbers()
    is_whole = der.endswith(public.x.to_bytes(_NUMBER_SIZE) + public.y.to_bytes(_NUMBER_SIZE))
    return private_key if is_whole else None


def _parse_key(path: Path, pem: bytes) -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives import serialization

    try:
        private_key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ParseError(str(path), "not a PEM private key; delete it to have a new one made") from error
    if not isinstance(private_key, ec.EllipticCurvePrivateKey) or not isinstance(private_key.curve, ec.SECP256R1):
        raise ParseError(str(path), "not an EC P-256 key; delete it to have a new one made")
    return private_key
