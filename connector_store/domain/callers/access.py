"""Access checks of callers: the interface `Access` and its results.

`connector_store.folder.caller_tokens` (folders) and `connector_store.kube.access` (a cluster) implement `Access`.
`connector_store.oidc.issuer_access` adds the callers of OIDC issuers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

from connector_store.domain.base.names import ObjectKey

SERVICE_ACCOUNT_PREFIX: Final = "system:serviceaccount:"
"""Start of the user name of a ServiceAccount. Its namespace and its name follow, with a colon between them."""
POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
NODE_NAME: Final = "authentication.kubernetes.io/node-name"
TOKEN_EXTRA: Final = frozenset(
    {
        POD_NAME,
        POD_UID,
        NODE_NAME,
        "authentication.kubernetes.io/node-uid",
        "authentication.kubernetes.io/credential-id",
    }
)
"""Fields of `extra` that tell the tokens of one ServiceAccount apart (Kubernetes, pkg/serviceaccount/claims.go)."""


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

    def without_token(self) -> "Identity":
        """Return the identity without the fields of `extra` that differ between the tokens of one ServiceAccount."""
        if TOKEN_EXTRA.isdisjoint(self.extra):
            return self
        return replace(self, extra={name: values for name, values in self.extra.items() if name not in TOKEN_EXTRA})

    def _first_extra(self, key: str) -> str:
        values = self.extra.get(key)
        return values[0] if values else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The token is valid and its caller may use the Connector.

    `token_expires_at` is in Unix seconds, or None if unknown. The result needs no further check until `valid_until`
    (seconds of the boot-time clock), as long as the `revocation_count` of its `Access` does not change. 0 requires a
    check for each request.
    """

    identity: Identity
    token_expires_at: float | None = None
    has_right: bool = True
    """False if the API server has no opinion on the use, and a policy or an approved request allows it."""
    valid_until: float = field(default=0.0, compare=False)
    ends_with_token: bool = False
    """The proxy cannot ask whether the token's owner still exists. So the token's expiry ends live connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Access is refused. `check` is the failed check: of the token, or of the right to use this Connector.

    `reason` is for logs only. The refused caller gets the same text whether the Connector exists or not.
    """

    check: Literal["token", "use"]
    reason: str
    has_opinion: bool = True
    """False if no authorizer of the API server allows or denies the use. A policy or an approved request can then."""
    authentication: Granted | None = None
    """Result of the check of the token, if the one of the right has no opinion."""
    may_request: bool = False
    """The caller may create access requests in the namespace, so the refusal says how."""
    is_entitled: bool = False
    """A policy or an approved request lets the caller in, so the result is cached as long as a granted one."""


UnavailableKind = Literal[
    "api_server_error", "api_server_forbidden", "api_server_throttled", "not_connected",
    "too_many_reviews", "too_many_unknown_issuers", "too_many_refused_tokens",
    "issuer_keys", "issuers_changed", "check_timeout", "check_failed",
]  # fmt: skip
"""Why a caller cannot be checked: the API server, a limit of the proxy, an issuer, or the check itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The check cannot run now.

    `retry_after` is in seconds. `public_reason` is the part of the reason that callers get. In an outage, the API
    server cannot be asked, and an earlier grant may be used.
    """

    reason: str
    kind: UnavailableKind = "check_failed"
    retry_after: int = 1
    public_reason: str = ""
    is_outage: bool = field(default=False, compare=False)


AccessResult = Granted | Refused | Unavailable


class Access(Protocol):
    """Authenticates a token and checks that its caller may use one Connector."""

    @property
    def revocation_count(self) -> int:
        """Number of events that revoked a granted result before its `valid_until`."""

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        """Return the result from the cache, or None if `check` must be called. Never waits."""

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        """Authenticate, then check the right to use `key`, even if that Connector does not exist.

        Checks that wait for an issuer share their places by `source_ip`, the client's address. It is empty for a check
        without a client.
        """

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        """Authenticate the caller of a live connection again, without caches.

        An expired token alone is not a reason to refuse it.
        """

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        """Check the right of a live connection's caller again, without caches.

        The answer is for all callers that differ only in their token (`Identity.without_token`). `token` is one of
        theirs.
        """
