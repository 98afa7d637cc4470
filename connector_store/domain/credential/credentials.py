"""Base of all kinds of credentials: reading from a Secret, use by a Connector, and secrecy.

Each kind is one module next to this one, which defines a `CredentialKind`, and one row of `credential_kinds.KINDS`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.errors import ParseError

AuthParams = tuple[tuple[str, str], ...]
"""Names and values of `spec.auth.params` of a Connector, in order."""


class Credential:
    """A credential that the target accepts, sent in place of the caller's token.

    Its text forms hide the content, and it cannot be pickled. Credentials with the same content are equal.
    `authorization` is the value of the Authorization header (RFC 9110 section 11.6.2), or None for a kind without one.
    Only the layer that owns the connection to the target uses it. `expires_at` and `issued_at` are in Unix seconds, as
    the credential states them, unverified. They are None if the credential does not state them.
    """

    __slots__ = ("authorization", "expires_at", "issued_at")

    def __init__(self, authorization: bytes | None, expires_at: float | None, issued_at: float | None = None) -> None:
        self.authorization: Final = authorization
        self.expires_at: Final = expires_at
        self.issued_at: Final = issued_at

    def expiry_warning_at(self, expiry_warning: float) -> float:
        """Return the time from which the expiry is reported. It is infinite without an expiry.

        It is `expiry_warning` seconds before the expiry. A short-lived credential is reported in the last fifth of its
        life.
        """
        if self.expires_at is None:
            return math.inf
        if self.issued_at is not None:
            expiry_warning = min(expiry_warning, max(0.0, self.expires_at - self.issued_at) / 5)
        return self.expires_at - expiry_warning

    def _comparison_key(self) -> object:
        """Return the content by which credentials of one kind are compared."""
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
    """A type of Secret that contains credentials.

    `keys` maps each required key to a description of its value. `read` parses the values of those keys. Its ParseError
    names the key and does not quote the value.
    """

    name: str
    keys: Mapping[str, str]
    read: Callable[[Mapping[str, bytes]], Credential]


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialKind:
    """A way to authenticate to targets. `name` is the name of the auth type in class `k8s`.

    An auth type has this kind if it uses one of `secret_types`. If `requires_name` is set, the auth type must also have
    the name of the kind, and its Secrets can be of any of `secret_types`. `derive` converts the Secret's credential to
    the Connector's credential. Its ParseError names the field of the Connector.
    """

    name: str
    secret_types: tuple[SecretType, ...]
    requires_name: bool = False
    derive: Callable[[Credential, AuthParams], Credential] = lambda credential, params: credential


class InvalidKeyError(ParseError):
    """Error of a key of a Secret's data, in the form that conditions use."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__("", f'key "{key}" {reason}')
        self.key = key
