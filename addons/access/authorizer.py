"""Access decisions on the CONNECT and the requests of one client connection.

An `Authorizer` authenticates the caller, checks its right to use the Connector, counts its connections, and returns one
frozen `AuthorizationResult`. While a check runs, the client is not read.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from addons.access.checks import NO_ANSWER, Checks, check_caller
from addons.access.connector_request import ConnectorRequest, parse_connect
from addons.access.target_tokens import TokenPending
from addons.http1.messages import RequestHead
from addons.net.sockets import Sockets
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity
from connector_store.domain.credential.token_request import IssuingCredential
from connector_store.domain.decision.decide import (
    AuthenticateInTunnel,
    Decision,
    Question,
    Resolution,
    decide,
    precheck,
)
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Target


class AuthorizationResult(NamedTuple):
    """A decision on a request, with the caller. `request` is None if the message names no Connector."""

    decision: Decision | AuthenticateInTunnel
    request: ConnectorRequest | None = None
    identity: Identity | None = None


OnDecision = Callable[[AuthorizationResult], None]


class Authorizer:
    """Authorizer of one client connection, which counts as one of its caller's connections to the Connector."""

    def __init__(self, checks: Checks, sockets: Sockets) -> None:
        self._checks = checks
        self._sockets = sockets
        self._slot: tuple[str, ObjectKey] | None = None
        self._grant_key: tuple[str, ObjectKey, int] | None = None
        """Key of `_granted`: token, Connector, and `revocation_count` at that time."""
        self._granted: Granted | None = None
        sockets.add_close_callback(self._release_slot)

    def authorize_connect(self, head: RequestHead, on_decision: OnDecision) -> AuthorizationResult | None:
        """Like `authorize_request`, for a CONNECT. The result of a failed precheck has no Connector and no caller."""
        request = parse_connect(head)
        deny = precheck(self._question(True, head, request))
        if deny is not None:
            return AuthorizationResult(deny)
        return self.authorize_request(head, request, on_decision, is_connect=True)

    def authorize_request(
        self, head: RequestHead, request: ConnectorRequest, on_decision: OnDecision, *, is_connect: bool = False
    ) -> AuthorizationResult | None:
        """Decide on a request. Return None if the caller must be checked first. Then `on_decision` gets the result."""
        key, token = request.key, request.token
        access_result, resolution = None, None
        if key is not None and isinstance(token, str):
            access_result, resolution = self._get_cached(token, key)
            if access_result is None and precheck(self._question(is_connect, head, request)) is None:
                self._check_caller(
                    token,
                    key,
                    lambda *checked: on_decision(self._decide(is_connect, head, request, *checked)),
                )
                return None
        return self._decide(is_connect, head, request, access_result, resolution)

    def _get_cached(self, token: str, key: ObjectKey) -> tuple[AccessResult | None, Resolution]:
        """Like the function `get_cached`, but use the grant of the last request while it is valid."""
        checks, granted = self._checks, self._granted
        grant_key = (token, key, checks.access.revocation_count)
        if granted is not None and grant_key == self._grant_key and time.monotonic() < granted.valid_until:
            return _with_resolution(checks, granted, key)
        access_result, resolution = get_cached(checks, token, key)
        self._grant_key, self._granted = grant_key, access_result if isinstance(access_result, Granted) else None
        return access_result, resolution

    def _check_caller(self, token: str, key: ObjectKey, on_checked: Callable[[AccessResult, Resolution], None]) -> None:
        """Check the caller. `on_checked` gets the result, and the resolution at that time."""
        checks, sockets = self._checks, self._sockets
        sockets.pause_reading()
        check = check_caller(checks, token, key, sockets.source_ip)
        sockets.run_task("a check", check, NO_ANSWER, lambda result: on_checked(result, checks.target_tokens.get(key)))

    def _decide(
        self,
        is_connect: bool,
        head: RequestHead,
        request: ConnectorRequest,
        access_result: AccessResult | None,
        resolution: Resolution,
    ) -> AuthorizationResult:
        checks, key, slot, identity = self._checks, request.key, None, None
        if isinstance(access_result, Granted) and key is not None:
            slot = (access_result.identity.user, key)
            # The records name a caller together with a Connector only if the caller may know that it exists.
            identity = access_result.identity if resolution is not None else None
        count = 0 if slot is None else checks.connection_counts[slot] - (slot == self._slot)
        decision = decide(self._question(is_connect, head, request, access_result, resolution, count))
        if slot is not None and identity is not None and slot != self._slot and not isinstance(decision, Deny):
            self._acquire_slot(slot)
        return AuthorizationResult(decision, request, identity)

    def _question(
        self,
        is_connect: bool,
        head: RequestHead,
        request: ConnectorRequest,
        access_result: AccessResult | None = None,
        resolution: Resolution = None,
        connection_count: int = 0,
    ) -> Question:
        checks = self._checks
        return Question(
            is_connect,
            request.key,
            request.authority,
            request.token,
            head.method,
            head.target,
            head.headers,
            checks.is_audit_log_full is not None and checks.is_audit_log_full(),
            not checks.unsynced,
            checks.policy,
            access_result,
            resolution,
            connection_count,
        )

    def _acquire_slot(self, slot: tuple[str, ObjectKey]) -> None:
        if self._slot is None:
            self._sockets.on_authenticated()
        else:
            self._release_slot()
        self._slot = slot
        self._checks.connection_counts[slot] += 1

    def _release_slot(self) -> None:
        slot, self._slot = self._slot, None
        if slot is None:
            return
        counts = self._checks.connection_counts
        counts[slot] -= 1
        if not counts[slot]:
            del counts[slot]


def get_cached(checks: Checks, token: str, key: ObjectKey) -> tuple[AccessResult | None, Resolution]:
    """Return what is available without waiting: the access result and the resolution of `key`.

    The access result is None if `check_caller` is necessary.
    """
    return _with_resolution(checks, checks.access.check_cached(token, key), key)


def _with_resolution(
    checks: Checks, access_result: AccessResult | None, key: ObjectKey
) -> tuple[AccessResult | None, Resolution]:
    resolution = checks.target_tokens.get_stored(key)
    if isinstance(resolution, Target) and isinstance(resolution.credential, IssuingCredential):
        resolution = checks.target_tokens.get(key)
        if isinstance(resolution, TokenPending) and isinstance(access_result, Granted):
            return None, resolution
    if access_result is not None:
        checks.cache_stats.hit_count += 1
    return access_result, resolution
