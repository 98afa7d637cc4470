"""Secret for the Via of direct access, which all proxies of an installation derive from the private key of their CA."""

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from mitmproxy.certs import CertStore

VIA_KEY_SIZE: Final = 32
"""Number of bytes of the secret."""
_LABEL: Final = b"connectors.alauda.io/via"
"""Label that separates this secret from others with the same source (the info of RFC 5869)."""


class ViaKey:
    """The secret. `get_signer` returns the current CA. The secret changes with the CA."""

    def __init__(self, get_signer: Callable[[], CertStore | None]) -> None:
        self._get_signer = get_signer
        self._signer: CertStore | None = None
        self._key = b""

    def __call__(self) -> bytes:
        """Return the secret. Raises RuntimeError while the CA is not available."""
        signer = self._get_signer()
        if signer is None:
            raise RuntimeError("the CA is not available yet")
        if signer is not self._signer:
            self._key, self._signer = derive_via_key(signer), signer
        return self._key


def derive_via_key(signer: CertStore) -> bytes:
    """Derive the secret with HKDF (RFC 5869)."""
    key = signer.default_privatekey.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return HKDF(SHA256(), VIA_KEY_SIZE, salt=None, info=_LABEL).derive(key)
