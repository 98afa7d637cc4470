"""Access decisions on the CONNECT and the requests of one client connection.

An `Authorizer` authenticates the caller, checks its right to use the Connector, counts its connections, and returns one
`AuthorizationResult`. While a check runs, the client is not read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from addons.access.caller_checks import NO_ANSWER, AccessContext, check_caller
from addons.access.connector_request import ConnectorRequest, parse_connect
from addons.access.entitlements import UseDecision
from addons.access.target_tokens import TokenPending
from addons.http1.messages import RequestHead
from addons.net.sockets import Sockets
from connector_store.boot_time import boot_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity
from connector_store.domain.credential.token_request import IssuingCredential
from connector_store.domain.decision.decide import (
    ALLOWING,
    UNCHECKED,
    AuthenticateInTunnel,
    Decision,
    Question,
    Resolution,
    decide,
)
from connector_store.domain.decision.denial import Cause, Deny
from connector_store.domain.objects.models import Target
from connector_store.domain.permissions.limits import Spending

_EARLY_CAUSES: Final[frozenset[Cause]] = frozenset({"audit", "not_synced"})
"""Causes of refusals before the check of the caller."""


@dataclass(slots=True)
class AuthorizationResult:
    """A decision on a request, with the caller. `request` is None if the message names no Connector.

    Nothing changes it. It is not frozen, because each request creates one.
    """

    decision: Decision | AuthenticateInTunnel
    request: ConnectorRequest | None = None
    identity: Identity | None = None


OnDecision = Callable[[AuthorizationResult], None]


class Authorizer:
    """Authorizer of one client connection, which counts as one of its caller's connections to the Connector."""

    def __init__(self, access_context: AccessContext, sockets: Sockets) -> None:
        self._access_context = access_context
        self._sockets = sockets
        self._slot: tuple[str, ObjectKey] | None = None
        self._grant_key: tuple[str, ObjectKey, int] | None = None
        """Key of `_granted`: token, Connector, and `revocation_count` at that time."""
        self._granted: Granted | None = None
        self._session: Spending | None = None
        """Session that the last request opened."""
        self._is_closed = False
        sockets.add_close_callback(self._on_close)

    def authorize_connect(self, head: RequestHead, on_decision: OnDecision) -> AuthorizationResult | None:
        """Like `authorize_request`, for a CONNECT. A refusal before the check of the caller names no caller."""
        result = self.authorize_request(head, parse_connect(head), on_decision, is_connect=True)
        if result is not None and isinstance(result.decision, Deny) and result.decision.cause in _EARLY_CAUSES:
            return AuthorizationResult(result.decision)
        return result

    def authorize_request(
        self,
        head: RequestHead,
        request: ConnectorRequest,
        on_decision: OnDecision,
        *,
        is_connect: bool = False,
        earlier: AuthorizationResult | None = None,
    ) -> AuthorizationResult | None:
        """Decide on a request. Return None if the caller must be checked first. Then `on_decision` gets the result.

        `earlier` is the result of an earlier decision on the same request, which must not count twice.
        """
        paid = _spending(earlier.decision) if earlier is not None else None
        key, token, granted = request.key, request.token, self._granted
        if key is None or not isinstance(token, str):
            return self._decide(is_connect, head, request, None, None, paid)
        # Use the grant of the last request while it is valid.
        grant_key = (token, key, self._access_context.access.revocation_count)
        if granted is None or grant_key != self._grant_key or boot_time() >= granted.valid_until:
            granted = None
        access_result, resolution = get_cached(self._access_context, token, key, granted)
        if granted is None:
            self._grant_key, self._granted = grant_key, access_result if isinstance(access_result, Granted) else None
        result = self._decide(is_connect, head, request, access_result, resolution, paid)
        if result.decision is not UNCHECKED:
            return result
        self._check_caller(
            token,
            key,
            lambda access, resolution: on_decision(self._decide(is_connect, head, request, access, resolution, paid)),
        )
        return None

    def _check_caller(self, token: str, key: ObjectKey, on_checked: Callable[[AccessResult, Resolution], None]) -> None:
        """Check the caller. `on_checked` gets the result, and the resolution at that time."""
        access_context, sockets = self._access_context, self._sockets
        sockets.pause_reading()
        check = check_caller(
            access_context, token, key, sockets.source_ip, lambda granted: self._on_granted(granted, key)
        )
        sockets.run_task(
            "a check", check, NO_ANSWER, lambda result: on_checked(result, access_context.target_tokens.get(key))
        )

    def _on_granted(self, granted: Granted, key: ObjectKey) -> None:
        """Count the caller if it must wait for a token of the target, so that it does not wait as unauthenticated."""
        slot, access_context = (granted.identity.user, key), self._access_context
        if self._is_closed or slot == self._slot or not isinstance(access_context.target_tokens.get(key), TokenPending):
            return
        if access_context.connection_counts[slot] < access_context.policy.max_connections:
            self._acquire_slot(slot)

    def _decide(
        self,
        is_connect: bool,
        head: RequestHead,
        request: ConnectorRequest,
        access_result: AccessResult | None,
        resolution: Resolution,
        paid: Spending | None,
    ) -> AuthorizationResult:
        if self._session is not None:
            self._close_session()
        access_context, key, slot, identity = self._access_context, request.key, None, None
        use: UseDecision | None = None
        index = access_context.entitlements.index
        if index is not None and index.has_objects and key is not None and access_result is not None:
            use = access_context.entitlements.authorize(access_result, key)
            access_result = use.access
        if isinstance(access_result, Granted) and key is not None:
            slot = (access_result.identity.user, key)
            # The records name a caller together with a Connector only if the caller may know that it exists.
            identity = access_result.identity if resolution is not None else None
        count = 0 if slot is None else access_context.connection_counts[slot] - (slot == self._slot)
        question = Question(
            is_connect,
            key,
            request.authority,
            request.token,
            head.method,
            head.target,
            head.headers,
            access_context.is_audit_log_full is not None and access_context.is_audit_log_full(),
            not access_context.unsynced,
            access_context.policy,
            access_result,
            resolution,
            count,
            access_context.budgets.find_exceeded,
            paid,
        )
        if use is not None:
            question = question._replace(access_grant=use.grant, grants=use.grants, lock=use.lock)
        decision = decide(question)
        if isinstance(decision, ALLOWING) and decision.spending is not None:
            self._spend(decision.spending, paid)
        if slot is not None and identity is not None and slot != self._slot and not isinstance(decision, Deny):
            self._acquire_slot(slot)
        return AuthorizationResult(decision, request, identity)

    def _spend(self, spending: Spending, paid: Spending | None) -> None:
        """Count a request that is allowed. Its session ends with the connection, or with the next request."""
        budgets = self._access_context.budgets
        budgets.charge(spending.minus(paid))
        if spending.sessions is not None and not self._is_closed:
            budgets.open_session(spending)
            self._session = spending

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._access_context.budgets.close_session(session)

    def _acquire_slot(self, slot: tuple[str, ObjectKey]) -> None:
        if self._slot is None:
            self._sockets.on_authenticated()
        else:
            self._release_slot()
        self._slot = slot
        self._access_context.connection_counts[slot] += 1

    def _on_close(self) -> None:
        self._is_closed = True
        self._close_session()
        self._release_slot()

    def _release_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is None:
            return
        counts = self._access_context.connection_counts
        counts[slot] -= 1
        if not counts[slot]:
            del counts[slot]


def _spending(decision: Decision | AuthenticateInTunnel) -> Spending | None:
    return decision.spending if isinstance(decision, ALLOWING) else None


def get_cached(
    access_context: AccessContext, token: str, key: ObjectKey, granted: Granted | None = None
) -> tuple[AccessResult | None, Resolution]:
    """Return what is available without waiting: the access result, or `granted`, and the resolution of `key`.

    The access result is None if `check_caller` is necessary.
    """
    access_result = granted or access_context.access.check_cached(token, key)
    resolution = access_context.target_tokens.get_stored(key)
    if isinstance(resolution, Target) and isinstance(resolution.credential, IssuingCredential):
        resolution = access_context.target_tokens.get(key)
        if isinstance(resolution, TokenPending) and isinstance(access_result, Granted):
            return None, resolution
    if access_result is not None:
        access_context.cache_stats.hit_count += 1
    return access_result, resolution
