"""Access checks of callers: the interface `Access` and its results.

`connector_store.folder.caller_tokens` (folders) and `connector_store.kube.access` (a cluster) implement `Access`.
`connector_store.oidc.issuer_access` adds the callers of OIDC issuers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from connector_store.domain.base.names import ObjectKey

POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
NODE_NAME: Final = "authentication.kubernetes.io/node-name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A verified caller, as in `status.user` of a TokenReview (authentication.k8s.io/v1)."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def pod(self) -> str:
        """Name of the pod that the token is bound to, or an empty string."""
        return self._first_extra(POD_NAME)

    @property
    def pod_uid(self) -> str:
        """UID of the pod that the token is bound to, or an empty string."""
        return self._first_extra(POD_UID)

    @property
    def node(self) -> str:
        """Name of the pod's node, or an empty string if it is unknown."""
        return self._first_extra(NODE_NAME)

    def _first_extra(self, key: str) -> str:
        values = self.extra.get(key)
        return values[0] if values else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The token is valid and its caller may use the Connector.

    `token_expires_at` is in Unix seconds, or None if unknown. The result needs no further check until `valid_until`
    (seconds of time.monotonic), as long as the `revocation_count` of its `Access` does not change. 0 requires a check
    for each request.
    """

    identity: Identity
    token_expires_at: float | None = None
    valid_until: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Access is refused. `check` is the failed check: of the token, or of the right to use this Connector.

    `reason` is for logs only. The refused caller gets the same text whether the Connector exists or not.
    """

    check: Literal["token", "use"]
    reason: str


UnavailableKind = Literal[
    "api_server_error", "api_server_forbidden", "api_server_throttled", "not_connected",
    "too_many_reviews", "too_many_unknown_issuers", "too_many_refused_tokens",
    "issuer_keys", "issuers_changed", "check_timeout", "check_failed",
]  # fmt: skip
"""Why a caller cannot be checked: the API server, a limit of the proxy, an issuer, or the check itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The check cannot run now.

    `retry_after` is in seconds. `public_reason` is the part of the reason that callers get.
    """

    reason: str
    kind: UnavailableKind = "check_failed"
    retry_after: int = 1
    public_reason: str = ""


AccessResult = Granted | Refused | Unavailable


class Access(Protocol):
    """Authenticates a token and checks that its caller may use one Connector."""

    @property
    def revocation_count(self) -> int:
        """Number of events that revoked a granted result before its `valid_until`."""

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        """Return the result from the cache, or None if `check` must be called. Never waits."""

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        """Authenticate, then check the right to use `key`, even if that Connector does not exist."""

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        """Check a live connection again without caches. An expired token alone is not a reason to refuse."""
