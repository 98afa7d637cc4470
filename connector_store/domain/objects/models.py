"""Frozen values of the parsed manifests. `manifest` creates them, the store keeps them, `resolve` joins them.

No raw object gets past `manifest`. Of a Secret's data, these values contain only the credential and the CA
certificates. A `Credential` never appears in text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from connector_store.domain.base.label_selector import Labels
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.credentials import AuthParams, Credential
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.limits import Limits
from connector_store.domain.permissions.permissions import Permissions

ADDRESS_ANNOTATION: Final = "connectors.alauda.io/address"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Address of a target. The scheme is always https.

    `host` is lower case and without brackets. `prefix` is empty, or `/path` without a trailing slash.
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
    """`probe.http` of a ConnectorClass, without templates."""

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
    """The supported part of a ConnectorClass. `unsupported_fields` are fields that are set, but have no effect."""

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
    """A Connector's spec, and the metadata that the programs need."""

    key: ObjectKey
    class_name: str
    address: Address
    auth_name: str | None = None
    auth_params: AuthParams = ()
    secret_name: str | None = None
    ca_secret_name: str | None = None
    permissions: Permissions | None = None
    """Limit of the requests. None allows everything that the credential can do."""
    impersonation: Impersonation | None = None
    """Prefixes of the caller's identity. None: the target sees the credential's own account."""
    limits: Limits | None = None
    """Limits of the number of requests and sessions. None: no limit."""
    uid: str = ""
    labels: Labels = field(default_factory=dict, hash=False)
    created_at: float = 0.0
    """Unix seconds of the API server's clock. 0 in a folder."""
    is_deleted: bool = False
    """The object has a deletionTimestamp. It is still served until it is gone."""
    generation: int = 0
    resource_version: str = field(default="", compare=False)
    """Ignored by comparisons, because a write of the status changes it."""

    @property
    def secret_keys(self) -> frozenset[ObjectKey]:
        """Secrets that the Connector references. They are in its own namespace."""
        names = (self.secret_name, self.ca_secret_name)
        return frozenset(ObjectKey(self.key.namespace, name) for name in names if name is not None)


class SecretProblem(NamedTuple):
    """Reason why a part of a Secret cannot be used.

    `key` is the key of its data, or empty. `path` is the field, or empty if `key` names it.
    """

    key: str
    path: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """The part of a Secret that a Connector can use.

    `credential` is None if the type is not in `credential_kinds.SECRET_TYPES`, or if the key `missing_key` does not
    exist (SecretKeyMissing). `ca` is PEM, or None if the Secret has no CA. `credential_problem` and `ca_problem` say
    why an existing value cannot be used (SecretInvalid, InvalidPEM).
    """

    key: ObjectKey
    type: str
    credential: Credential | None = None
    credential_problem: SecretProblem | None = None
    missing_key: str = ""
    ca: bytes | None = None
    ca_problem: SecretProblem | None = None
    pinned_address: Address | None = None
    pinned_address_problem: SecretProblem | None = None
    is_shared_ca: bool = False
    resource_version: str = field(default="", compare=False)
    """Version that shows which of two sources has the newer state. It is empty in a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidConnector:
    """A Connector that exists, but cannot be parsed. `reason` is a condition's reason, `message` says how to fix it.

    `path` is the field to change. The message begins with it.
    """

    key: ObjectKey
    class_name: str
    reason: str
    message: str
    path: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = field(default="", compare=False)
    """Ignored by comparisons, because a write of the status changes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A usable Connector with everything that the data path needs. The store joins it once for each change.

    `credential` is None if the class makes authentication optional and the Connector references no Secret. `ca` is
    the PEM of the most specific source of trust, or None for the system's store.
    """

    key: ObjectKey
    uid: str
    address: Address
    credential: Credential | None
    secret_name: str | None
    ca: bytes | None
    permissions: PermissionEvaluator | None = None
    impersonation: Impersonation | None = None
    limits: Limits | None = None


SECRET_INVALID: Final = "SecretInvalid"  # noqa: S105 - a reason
PERMISSIONS_INVALID: Final = "PermissionsInvalid"
TOKEN_NOT_ISSUED: Final = "NotLent"  # noqa: S105 - a reason
"""Reason of an `Unusable` whose target issued no token.

The Secret's credential may not issue tokens, or the target is down.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """A Connector that cannot be used. `reason` is a condition's reason, `message` says how to fix it."""

    key: ObjectKey
    reason: str
    message: str
    path: str = ""
    """Field of the Connector to change, or empty."""
    secret: ObjectKey | None = None
    """Secret whose content is the problem."""
