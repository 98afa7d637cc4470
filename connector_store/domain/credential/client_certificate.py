"""Kind `clientCertificateAuth`: a client certificate for the TLS handshake. Requests have no Authorization header.

The Secret has type connectors.cpaas.io/client-certificate and the keys of a kubernetes.io/tls Secret:

- tls.crt: the certificate and its intermediate certificates
- tls.key: its private key, unencrypted
- ca.crt (optional): the target's CA

`connector_store.client_certificates` loads them and checks that they match.
"""

import re
from collections.abc import Mapping
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.pem import parse_certificates
from connector_store.domain.credential.credentials import Credential, CredentialKind, InvalidKeyError, SecretType

CLIENT_CERTIFICATE_SECRET: Final = "connectors.cpaas.io/client-certificate"  # noqa: S105 - the name of a Secret type
MAX_PEM_BYTES: Final = 65536
"""Maximum length of either value in bytes. TLS does not accept a longer chain, and each full handshake sends it."""

CERTIFICATE_KEY: Final = "tls.crt"
PRIVATE_KEY: Final = "tls.key"

_PRIVATE_KEY_BLOCK: Final = re.compile(
    rb"-----BEGIN (?P<label>(?:[A-Z0-9]+ )?PRIVATE KEY)-----[^-]*-----END (?P=label)-----", re.ASCII
)
_ENCRYPTED_MARKERS: Final = (b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")


class ClientCertificate(Credential):
    """A client certificate. `chain` and `key` are PEM.

    `expires_at` is the earliest expiry in the chain, and `issued_at` the start of that certificate. They are None until
    the chain is loaded.
    """

    __slots__ = ("chain", "key")

    def __init__(
        self, chain: bytes, key: bytes, expires_at: float | None = None, issued_at: float | None = None
    ) -> None:
        super().__init__(None, expires_at, issued_at)
        self.chain: Final = chain
        self.key: Final = key

    def _comparison_key(self) -> object:
        return self.chain, self.key


def client_certificate_of(credential: Credential | None) -> ClientCertificate | None:
    """Return the client certificate for the TLS handshake with the target, or None."""
    return credential if isinstance(credential, ClientCertificate) else None


def _read_secret(values: Mapping[str, bytes]) -> ClientCertificate:
    for name, value in values.items():
        if len(value) > MAX_PEM_BYTES:
            raise InvalidKeyError(name, f"is longer than {MAX_PEM_BYTES} bytes")
    try:
        chain = parse_certificates(values[CERTIFICATE_KEY])
    except ParseError as error:
        raise InvalidKeyError(CERTIFICATE_KEY, error.reason) from None
    key = values[PRIVATE_KEY]
    if any(marker in key for marker in _ENCRYPTED_MARKERS):
        raise InvalidKeyError(PRIVATE_KEY, "is encrypted; put it there without a passphrase: openssl pkey -in FILE")
    key_block = _PRIVATE_KEY_BLOCK.search(key)
    if key_block is None:
        raise InvalidKeyError(PRIVATE_KEY, "has no whole PEM private key; it begins with -----BEGIN PRIVATE KEY-----")
    return ClientCertificate(b"".join(chain), key_block.group() + b"\n")


CLIENT_CERTIFICATE: Final = SecretType(
    name=CLIENT_CERTIFICATE_SECRET,
    keys={CERTIFICATE_KEY: "the client certificate", PRIVATE_KEY: "its private key"},
    read=_read_secret,
)
KIND: Final = CredentialKind(name="clientCertificateAuth", secret_types=(CLIENT_CERTIFICATE,))
