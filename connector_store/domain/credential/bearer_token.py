"""The kind `bearerTokenAuth`: the Secret's token, in the Authorization header of each request (RFC 6750).

Of the token, white space around it is dropped, as client-go does it for a tokenFile: `kubectl create secret
--from-file` keeps an editor's final newline. Any other white space makes it unusable.
"""

from collections.abc import Mapping
from typing import Final

from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.credential.credentials import Credential, CredentialKind, SecretType, invalid_key

BEARER_TOKEN_SECRET: Final = "connectors.cpaas.io/bearer-token"  # noqa: S105 - the name of a Secret type
MAX_TOKEN_BYTES: Final = 16384
"""Bytes of a token: it has to fit into one header of every target."""

_KEY: Final = "token"


class BearerToken(Credential):
    """A token of visible ASCII; it ends when it says so itself, if it is a JWT."""

    __slots__ = ()

    def __init__(self, token: str) -> None:
        super().__init__(b"Bearer " + token.encode("ascii"), read_token_times(token).expires_at)


def _read_secret(values: Mapping[str, bytes]) -> BearerToken:
    token = values[_KEY].strip()
    if not token:
        raise invalid_key(_KEY, "is empty; put the bearer token there")
    if len(token) > MAX_TOKEN_BYTES:
        raise invalid_key(_KEY, f"is longer than {MAX_TOKEN_BYTES} bytes")
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise invalid_key(_KEY, "has spaces, line breaks or characters that are not ASCII; put the token alone")
    return BearerToken(token.decode("ascii"))


BEARER_TOKEN: Final = SecretType(name=BEARER_TOKEN_SECRET, keys={_KEY: "the bearer token"}, read=_read_secret)
KIND: Final = CredentialKind(name="bearerTokenAuth", secret_types=(BEARER_TOKEN,))
