"""Access decisions on the CONNECT and the requests of one client connection.

An `Authorizer` authenticates the caller, checks its right to use the Connector, counts its connections, and returns one
frozen `AuthorizationResult`. While a check runs, the client is not read.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from addons.access.checks import NO_ANSWER, Checks, check_caller
from addons.access.connector_request import ConnectorRequest
from addons.access.target_tokens import TokenPending
from addons.http1.messages import RequestHead
from addons.net.sockets import Sockets
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity
from connector_store.domain.callers.authorization_header import BasicAuthorization, parse_proxy_authorization
from connector_store.domain.credential.token_request import IssuingCredential
from connector_store.domain.decision.decide import (
    AuthenticateInTunnel,
    Decision,
    Resolution,
    decide_connect,
    decide_request,
    precheck_connect,
    precheck_request,
)
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import Target


class AuthorizationResult(NamedTuple):
    """A decision, with the Connector and the caller for the records. `token` is the token that was checked."""

    decision: Decision | AuthenticateInTunnel
    key: ObjectKey | None
    identity: Identity | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"AuthorizationResult({self.key}, {type(self.decision).__name__})"


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
        """Decide on a CONNECT. Return None if the caller must be checked first. Then `on_decision` gets the result."""
        checks = self._checks
        credentials = precheck_connect(
            audit_log_full=checks.is_audit_log_full is not None and checks.is_audit_log_full(),
            synced=not checks.unsynced,
            credentials=_parse_credentials(head),
        )
        if isinstance(credentials, Deny):
            return AuthorizationResult(credentials, None)
        if credentials.token is None:
            return self._decide_connect(head, credentials, None, None)
        access_result, resolution = self._get_cached(credentials.token, credentials.key)
        if access_result is not None:
            return self._decide_connect(head, credentials, access_result, resolution)
        self._check_caller(
            credentials.token,
            credentials.key,
            lambda *checked: on_decision(self._decide_connect(head, credentials, *checked)),
        )
        return None

    def authorize_request(
        self, head: RequestHead, request: ConnectorRequest, on_decision: OnDecision
    ) -> AuthorizationResult | None:
        """Decide on a request. Return None if the caller must be checked first. Then `on_decision` gets the result."""
        checks, token = self._checks, request.token
        if isinstance(token, ParseError):
            return self._decide_request(head, request, None, None)
        access_result, resolution = self._get_cached(token, request.key)
        if access_result is not None:
            return self._decide_request(head, request, access_result, resolution)
        deny = precheck_request(
            audit_log_full=checks.is_audit_log_full is not None and checks.is_audit_log_full(),
            method=head.method,
            synced=not checks.unsynced,
            token=token,
        )
        if deny is not None:
            return AuthorizationResult(deny, request.key)
        self._check_caller(
            token, request.key, lambda *checked: on_decision(self._decide_request(head, request, *checked))
        )
        return None

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

    def _decide_connect(
        self,
        head: RequestHead,
        credentials: BasicAuthorization,
        access_result: AccessResult | None,
        resolution: Resolution,
    ) -> AuthorizationResult:
        checks = self._checks
        decision = decide_connect(
            audit_log_full=checks.is_audit_log_full is not None and checks.is_audit_log_full(),
            synced=not checks.unsynced,
            credentials=credentials,
            access=access_result,
            resolution=resolution,
            authority=head.target.decode("ascii"),
            policy=checks.policy,
            connection_count=self._other_connections(access_result, credentials.key),
        )
        return self._conclude(decision, credentials.key, credentials.token, access_result, resolution)

    def _decide_request(
        self, head: RequestHead, request: ConnectorRequest, access_result: AccessResult | None, resolution: Resolution
    ) -> AuthorizationResult:
        checks = self._checks
        decision = decide_request(
            audit_log_full=checks.is_audit_log_full is not None and checks.is_audit_log_full(),
            method=head.method,
            synced=not checks.unsynced,
            token=request.token,
            key=request.key,
            access=access_result,
            resolution=resolution,
            authority=request.authority,
            raw_target=head.target,
            headers=head.headers,
            policy=checks.policy,
            connection_count=self._other_connections(access_result, request.key),
        )
        token = request.token if isinstance(request.token, str) else None
        return self._conclude(decision, request.key, token, access_result, resolution)

    def _other_connections(self, access_result: AccessResult | None, key: ObjectKey) -> int:
        """Return the number of the caller's other connections to the Connector."""
        if not isinstance(access_result, Granted):
            return 0
        slot = (access_result.identity.user, key)
        return self._checks.connection_counts[slot] - (slot == self._slot)

    def _conclude(
        self,
        decision: Decision | AuthenticateInTunnel,
        key: ObjectKey,
        token: str | None,
        access_result: AccessResult | None,
        resolution: Resolution,
    ) -> AuthorizationResult:
        # The records name a caller together with a Connector only if the caller may know that it exists.
        identity = access_result.identity if isinstance(access_result, Granted) and resolution is not None else None
        if identity is not None and not isinstance(decision, Deny) and self._slot != (identity.user, key):
            self._acquire_slot((identity.user, key))
        return AuthorizationResult(decision, key, identity, token)

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


def _parse_credentials(head: RequestHead) -> BasicAuthorization | ParseError:
    try:
        return parse_proxy_authorization(head.headers.single_value(b"proxy-authorization"))
    except ParseError as error:
        return error
