"""Who calls, and may they: the answers of an access check, and the interface that gives them.

`connector_store.folder.caller_tokens` (folders) and `connector_store.kube.access` (a cluster) implement `Access`; the doors
know no other.
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
    """A verified caller, as `status.user` of a TokenReview (authentication.k8s.io/v1) gives them."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def pod(self) -> str:
        """Name of the pod that the token is bound to; empty if to none."""
        return self._first_extra(POD_NAME)

    @property
    def pod_uid(self) -> str:
        """Of that pod."""
        return self._first_extra(POD_UID)

    @property
    def node(self) -> str:
        """Name of the node of that pod; empty if unknown."""
        return self._first_extra(NODE_NAME)

    def _first_extra(self, key: str) -> str:
        values = self.extra.get(key)
        return values[0] if values else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The token is good and its caller may use the Connector.

    `token_expires`, in unix seconds, is None where it is unknown. Until `holds_until`, in those of time.monotonic,
    nobody needs to ask again, while the `withdrawn` of the `Access` that gave it is what it was; 0 where it is to be
    asked each time.
    """

    identity: Identity
    token_expires_at: float | None = None
    valid_until: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Not them. `what` is what failed: the token itself, or the right to use this Connector.

    `reason` is for logs: a refused caller gets the same text whether the Connector exists or not.
    """

    check: Literal["token", "use"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """The check could not be made. `retry_after` is in seconds; `told` is the part of the reason that callers get."""

    reason: str
    retry_after: int = 1
    public_reason: str = ""


AccessResult = Granted | Refused | Unavailable


class Access(Protocol):
    """Authenticates a token and checks that its caller may use one Connector."""

    @property
    def revocation_count(self) -> int:
        """Counts what has ended an answer before its time."""

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        """The answer if it is known; None if it must be asked for. Never waits."""

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        """Authenticate, then ask for the right to use `key`, also if there is no such Connector."""

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        """The answer for a live stream, past all caches: an expired token alone is no refusal here."""
