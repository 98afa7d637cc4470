"""Kind `bearerTokenAuth`: the Secret's token, sent in the Authorization header of each request (RFC 6750).

White space around the token is stripped, as client-go does for a tokenFile, because `kubectl create secret
--from-file` includes an editor's final newline. White space inside the token makes it unusable.
"""

from collections.abc import Mapping
from typing import Final

from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.credential.credentials import Credential, CredentialKind, InvalidKeyError, SecretType

BEARER_TOKEN_SECRET: Final = "connectors.cpaas.io/bearer-token"  # noqa: S105 - the name of a Secret type
MAX_TOKEN_BYTES: Final = 16384
"""Maximum length of a token in bytes. The token must fit into one header of every target."""

_KEY: Final = "token"


class BearerToken(Credential):
    """A token of visible ASCII characters. If it is a JWT, its `exp` is the expiry, and its `iat` the time of issue."""

    __slots__ = ()

    def __init__(self, token: str) -> None:
        times = read_token_times(token)
        super().__init__(b"Bearer " + token.encode("ascii"), times.expires_at, times.issued_at)


def _read_secret(values: Mapping[str, bytes]) -> BearerToken:
    token = values[_KEY].strip()
    if not token:
        raise InvalidKeyError(_KEY, "is empty; put the bearer token there")
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidKeyError(_KEY, f"is longer than {MAX_TOKEN_BYTES} bytes")
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise InvalidKeyError(_KEY, "has spaces, line breaks or characters that are not ASCII; put the token alone")
    return BearerToken(token.decode("ascii"))


BEARER_TOKEN: Final = SecretType(name=BEARER_TOKEN_SECRET, keys={_KEY: "the bearer token"}, read=_read_secret)
KIND: Final = CredentialKind(name="bearerTokenAuth", secret_types=(BEARER_TOKEN,))
