"""What manifests mean, as frozen values: made by `manifest`, kept by the store, joined by `resolve`.

Raw objects stop at `manifest`. Nothing here holds a Secret's data beyond the credential and the CA certificates, and
a `Credential` never shows itself in text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import AuthParams, Credential
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.permissions import PermissionEvaluator, Permissions

CA_LABEL: Final = "connectors.cpaas.io/ca-cert"
ADDRESS_ANNOTATION: Final = "connectors.alauda.io/address"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a target is: https only.

    `host` is lower case and without brackets; `prefix` is empty or `/path` without a trailing slash.
    """

    host: str
    port: int
    prefix: str = ""
    authority: str = field(init=False, repr=False, compare=False)
    """`host:port`, IPv6 in brackets (RFC 3986 section 3.2)."""

    def __post_init__(self) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        object.__setattr__(self, "authority", f"{host}:{self.port}")

    def __str__(self) -> str:
        return f"https://{self.authority}{self.prefix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe:
    """`probe.http` of a ConnectorClass: plain values only."""

    path: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthType:
    """`spec.auth.types[]` of a ConnectorClass."""

    name: str
    secret_type: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorClass:
    """A ConnectorClass as far as we run it; `not_run` names the fields of it that we accept and do not run."""

    name: str
    auth_types: tuple[AuthType, ...] = ()
    liveness: HttpProbe | None = None
    auth_probes: Mapping[str, HttpProbe] = field(default_factory=dict)
    configurations: tuple[str, ...] = ()
    unsupported_fields: tuple[str, ...] = ()
    uid: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """A Connector's spec, with what of its metadata the doors need."""

    key: ObjectKey
    class_name: str
    address: Address
    auth_name: str | None = None
    auth_params: AuthParams = ()
    secret_name: str | None = None
    ca_secret_name: str | None = None
    permissions: Permissions | None = None
    """None: all that the credential may do."""
    impersonation: Impersonation | None = None
    """None: the target sees the credential's own account."""
    uid: str = ""
    generation: int = 0
    resource_version: str = field(default="", compare=False)
    """Of no account for what the object means: a write of its status moves it."""

    @property
    def secret_keys(self) -> frozenset[ObjectKey]:
        """The Secrets that it names, of its own namespace."""
        names = (self.secret_name, self.ca_secret_name)
        return frozenset(ObjectKey(self.key.namespace, each) for each in names if each is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What a Connector may take from a Secret.

    `credential` is None in a Secret of another type than `auth.SECRET_TYPES`, and where `lacks` names the key that is
    missing (SecretKeyMissing); `ca` where there is none. `credential_problem` and `ca_problem` say why what is there
    cannot be used (SecretInvalid, InvalidPEM). `ca` is PEM.
    """

    key: ObjectKey
    type: str
    credential: Credential | None = None
    credential_problem: str | None = None
    missing_key: str = ""
    ca: bytes | None = None
    ca_problem: str | None = None
    pinned_address: Address | None = None
    pinned_address_problem: str | None = None
    is_shared_ca: bool = False
    resource_version: str = field(default="", compare=False)
    """Tells which is the newer one of two sources'; empty in a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidConnector:
    """A Connector that exists but cannot be read: `reason` is a condition's reason, `message` says what to mend."""

    key: ObjectKey
    class_name: str
    reason: str
    message: str
    uid: str = ""
    generation: int = 0
    resource_version: str = field(default="", compare=False)
    """Of no account for what the object means: a write of its status moves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A Connector that can be used: all that the data path needs, joined once for every change.

    `credential` is None where the class makes authentication optional and no Secret is named. `ca` is the PEM of the
    most specific source of trust, or None for the system's store.
    """

    key: ObjectKey
    uid: str
    address: Address
    credential: Credential | None
    secret_name: str | None
    ca: bytes | None
    permissions: PermissionEvaluator | None = None
    impersonation: Impersonation | None = None


TOKEN_NOT_ISSUED: Final = "NotLent"
"""Reason of an Unusable whose target grants no token: what the Secret holds may not mint, or the target is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A Connector of ours that cannot be used: a condition's reason, and a message that names what to mend."""

    key: ObjectKey
    reason: str
    message: str
