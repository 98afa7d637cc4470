"""What every kind of credential has in common: how it is read from a Secret, lent by a Connector and kept out of sight.

A kind is one file beside this one, with a `Kind` in it, and one row of `auth.KINDS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.errors import ParseError

AuthParams = tuple[tuple[str, str], ...]
"""`spec.auth.params` of a Connector: names and values, in order."""


class Credential:
    """What goes to a target in place of the caller's own token. No text form shows it, and it is never pickled.

    `authorization` is the value of the Authorization header (RFC 9110 section 11.6.2), None for a kind that sends
    none; it is for the layer that owns the connection to the target. `expires` is in unix seconds, as the credential
    itself says it, unverified; None where it says nothing. Two are equal that hold the same.
    """

    __slots__ = ("authorization", "expires_at")

    def __init__(self, authorization: bytes | None, expires_at: float | None) -> None:
        self.authorization: Final = authorization
        self.expires_at: Final = expires_at

    def _comparison_key(self) -> object:
        """What tells it from others of its kind."""
        return self.authorization

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and isinstance(other, Credential)
            and other._comparison_key() == self._comparison_key()
        )

    def __hash__(self) -> int:
        return hash((type(self), self._comparison_key()))

    def __reduce__(self) -> str:
        raise TypeError("a credential is not pickled")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretType:
    """A type of Secret that holds credentials. `keys` says what belongs under each key that it must have.

    `read` gets the values of those keys; its ParseError names the key and quotes nothing.
    """

    name: str
    keys: Mapping[str, str]
    read: Callable[[Mapping[str, bytes]], Credential]


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialKind:
    """A way to authenticate to targets. `name` is that of the auth type in class `k8s`.

    Of this kind are the auth types with one of `secret_types`; if `by_name`, only those that also have its name, and
    their Secrets may be of any of `secret_types`. `lend` makes of what the Secret holds what the target is to get;
    its ParseError names the field of the Connector.
    """

    name: str
    secret_types: tuple[SecretType, ...]
    requires_name: bool = False
    derive: Callable[[Credential, AuthParams], Credential] = lambda held, params: held


def invalid_key(key: str, reason: str) -> ParseError:
    """Of a Secret's data, in the words in which conditions name its keys."""
    return ParseError("", f'key "{key}" {reason}')
