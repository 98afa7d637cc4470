"""Access decisions: the checks of a CONNECT and of a request, in their order.

audit log -> method -> synced -> credentials -> authentication and authorization for the key -> the object exists -> it
is usable -> no lock holds -> CHECKS, or CONNECT_CHECKS for a CONNECT. The order keeps a secret: callers learn nothing
about an object that they may not use. To add a check, write its function, add it to these lists or to PRECHECKS, and
add its refusal to `denial`. These lists are not applied to live connections. A check that depends on the Connector also
needs a line in `_close_reason` of `addons/access/live_connections`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Refused, Unavailable
from connector_store.domain.decision import denial
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.denial import Deny
from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.grants.wider_permissions import evaluate_grants, widen_by_grants
from connector_store.domain.objects.access_objects import AccessLock
from connector_store.domain.objects.address_matching import (
    authority_matches,
    host_matches,
    host_of_authority,
    is_path_within,
    is_traversal_free,
)
from connector_store.domain.objects.models import Target, Unusable
from connector_store.domain.permissions.evaluator import Allowed, PermissionEvaluator
from connector_store.domain.permissions.impersonation import write_impersonation_headers
from connector_store.domain.permissions.limits import Exceeded, Spending, plan_spending
from connector_store.domain.permissions.request_attributes import RequestAttributes, parse_request_attributes
from connector_store.domain.permissions.restrictions import Treatment

ALLOWED_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""TRACE is not allowed, because its response would contain the credential (RFC 9110 section 9.3.8)."""

Resolution = Target | Unusable | None
"""Result of a lookup of a key in the store."""


class Inject(NamedTuple):
    """Decision to send the request to `target` with its credential. It is a tuple because each request creates one.

    `role` is the ClusterRole that allowed it. It is empty if the Connector has no `allow`. `impersonation_headers` are
    header lines that tell the target who the caller is.
    """

    target: Target
    grant: Granted
    role: str = ""
    impersonation_headers: bytes = b""
    treatment: Treatment = Treatment.UNCHANGED
    access_grant: AccessGrant | None = None
    """Approved access request without which the request would be refused."""
    spending: Spending | None = None
    """Limits that the request counts against. None if the Connector has none."""
    wider: tuple[PermissionEvaluator, ...] = ()
    """For a self-review: the target's permissions with those of one access request of the caller each."""

    def __repr__(self) -> str:
        return f"Inject({self.target.key}, role={self.role!r}, {self.treatment.name})"


class Forward(NamedTuple):
    """Decision to send the request to `target` without a credential, because authentication is optional."""

    target: Target
    grant: Granted
    role: str = ""
    impersonation_headers: bytes = b""
    treatment: Treatment = Treatment.UNCHANGED
    access_grant: AccessGrant | None = None
    spending: Spending | None = None
    wider: tuple[PermissionEvaluator, ...] = ()

    def __repr__(self) -> str:
        return f"Forward({self.target.key}, role={self.role!r}, {self.treatment.name})"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticateInTunnel:
    """Decision to open a tunnel for `key`. Each request in it authenticates, and then the Connector is checked."""

    key: ObjectKey


Decision = Inject | Forward | Deny
ALLOWING: Final = (Inject, Forward)
"""Types of the decisions to send a request, for `isinstance`. Python would create a union again for each call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """Limits from the proxy's settings: allowed addresses, and connections of one caller to one Connector."""

    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    max_connections: int = 1000


class Question(NamedTuple):
    """Input of a decision: a CONNECT or a request, and the state of the proxy that its decision depends on.

    In a tunnel, `key` and `authority` are those of its CONNECT. `key` is None if the credentials of a CONNECT are
    unreadable. With direct access, `authority` is None, `target` is relative to the path of the Connector's address,
    and Host is the proxy's own.
    """

    is_connect: bool
    key: ObjectKey | None
    authority: str | None
    token: str | ParseError | None
    """Token of the caller. A ParseError if it is missing or unreadable, None if each request in the tunnel has one."""
    method: bytes
    target: bytes
    """Request target (RFC 9112 section 3.2)."""
    headers: Headers
    audit_log_full: bool
    """The audit log accepts no more records."""
    synced: bool
    policy: ProxyLimits
    access: AccessResult | None = None
    """Result of the access check for `token`, None if no check was made."""
    resolution: Resolution = None
    """The store's value for `key`."""
    connection_count: int = 0
    """Number of the caller's other connections to the Connector."""
    find_exceeded: Callable[[Spending], Exceeded | None] | None = None
    """Return the limit that a request exceeds now. None refuses requests of Connectors with limits."""
    paid: Spending | None = None
    """Spending of an earlier decision on the same request."""
    access_grant: AccessGrant | None = None
    """Approved access request that lets the caller use the Connector, if nothing else does."""
    grants: tuple[AccessGrant, ...] = ()
    """All approved access requests of the caller for the Connector. They can add permissions."""
    lock: AccessLock | None = None
    """Lock that holds for the caller and the Connector."""

    def __repr__(self) -> str:
        return f"Question({self.key}, {self.authority})"


UNCHECKED: Final = denial.internal_error()
"""Refusal of a caller for whom no access check was made. After the check, the same question has another decision."""

Precheck = Callable[[Question], Deny | None]
Check = Callable[[Question, Inject | Forward], Decision]
"""Returns a refusal, or the decision so far, with what the check adds to it."""


def decide(question: Question) -> Decision | AuthenticateInTunnel:
    """Run all checks in their order, up to the first refusal. Without an access check, that is UNCHECKED at the latest.

    The decision is AuthenticateInTunnel only for a CONNECT without a token.
    """
    for precheck in PRECHECKS:
        deny = precheck(question)
        if deny is not None:
            return deny
    if question.is_connect and question.token is None and question.key is not None:
        return _defer(question.key, question.authority or "")
    decision = _resolve(question)
    if not isinstance(decision, ALLOWING):
        return decision
    checks = CHECKS if decision.target.limits is not None else UNLIMITED_CHECKS
    for check in CONNECT_CHECKS if question.is_connect else checks:
        result = check(question, decision)
        if result is not decision:
            if isinstance(result, Deny):
                return result
            decision = result
    return decision


def _check_audit_log(question: Question) -> Deny | None:
    return denial.audit_log_full() if question.audit_log_full else None


def _check_method(question: Question) -> Deny | None:
    return None if question.is_connect or question.method in ALLOWED_METHODS else denial.bad_method()


def _check_synced(question: Question) -> Deny | None:
    return None if question.synced else denial.not_synced()


def _check_credentials(question: Question) -> Deny | None:
    if isinstance(question.token, ParseError):
        return denial.bad_credentials(question.token, on_connect=question.is_connect)
    return None


def _defer(key: ObjectKey, authority: str) -> AuthenticateInTunnel | Deny:
    return denial.bad_authority() if host_of_authority(authority) is None else AuthenticateInTunnel(key=key)


def _resolve(question: Question) -> Decision:
    """Return the decision for a verified caller and a usable Connector, or why the caller does not get one."""
    key, access, resolution = question.key, question.access, question.resolution
    if key is None or access is None:
        return UNCHECKED
    if not isinstance(access, Granted):
        return _refuse(key, access, on_connect=question.is_connect)
    if not isinstance(resolution, Target):
        return denial.access_denied(key) if resolution is None else denial.unusable(resolution)
    if question.lock is not None:
        return denial.locked(key, question.lock.reason or question.lock.problem)
    decision = Forward if resolution.credential is None else Inject
    # Positional, because keywords to a class cost as much as the rest of its creation.
    return decision(resolution, access, "", b"", Treatment.UNCHANGED, question.access_grant)


def _refuse(key: ObjectKey, access: Refused | Unavailable, *, on_connect: bool) -> Deny:
    if isinstance(access, Unavailable):
        return denial.unavailable(access)
    if access.check == "token":
        return denial.bad_token(on_connect=on_connect)
    return denial.access_denied(key, may_request=access.may_request)


def _check_address(question: Question, decision: Inject | Forward) -> Decision:
    authority, address = question.authority, decision.target.address
    if authority not in (None, address.authority) and not authority_matches(authority, address):
        return denial.wrong_address(decision.target.key, address)
    if question.policy.addresses.denies(address.host):
        return denial.target_denied(decision.target, address.host)
    return decision


def _check_host_and_path(question: Question, decision: Inject | Forward) -> Decision:
    key, address = decision.target.key, decision.target.address
    if question.authority is None:
        return decision if is_traversal_free(question.target) else denial.path_traversal(key)
    host = question.headers.single_value(b"host")
    if host is None or (host.decode("latin-1") != address.authority and not host_matches(host, address)):
        return denial.wrong_host(key, address)
    return decision if is_path_within(question.target, address) else denial.path_outside(key, address)


def _check_impersonation_header(question: Question, decision: Inject | Forward) -> Decision:
    header = question.headers.impersonation_header
    return decision if header is None else denial.impersonation_header(header)


def _check_permissions(question: Question, decision: Inject | Forward) -> Decision:
    """Add the role that allows the request, its treatment, and header lines that tell the target who the caller is."""
    target = decision.target
    if target.permissions is None and target.impersonation is None:
        return decision
    role, impersonation_headers, treatment, access_grant = "", b"", Treatment.UNCHANGED, decision.access_grant
    wider: tuple[PermissionEvaluator, ...] = ()
    if target.permissions is not None:
        attributes = _parse_attributes(question, target)
        result = target.permissions.evaluate(attributes)
        if not isinstance(result, Allowed) and question.grants:
            result, access_grant = evaluate_grants(target.permissions, question.grants, attributes, result)
        if not isinstance(result, Allowed):
            return denial.not_permitted(target.key, attributes.info, result)
        role, treatment = result.role, result.treatment
        access_grant = access_grant or decision.access_grant
        if treatment is Treatment.REVIEW:
            wider = widen_by_grants(target.permissions, question.grants)
    if target.impersonation is not None:
        try:
            request = str(access_grant.request) if access_grant is not None else ""
            impersonation_headers = write_impersonation_headers(target.impersonation, decision.grant.identity, request)
        except ParseError as error:
            return denial.cannot_impersonate(target.key, error)
    return type(decision)(target, decision.grant, role, impersonation_headers, treatment, access_grant, None, wider)


def _parse_attributes(question: Question, target: Target) -> RequestAttributes:
    # With direct access, the request target does not contain the prefix of the address.
    prefix = "" if question.authority is None else target.address.prefix
    return parse_request_attributes(question.method, question.target, question.headers, prefix)


def _check_connection_count(question: Question, decision: Inject | Forward) -> Decision:
    limit = question.policy.max_connections
    return decision if question.connection_count < limit else denial.too_many_connections(limit)


def _check_limits(question: Question, decision: Inject | Forward) -> Decision:
    """Add what the request counts against, unless that exceeds a limit. It is the last check: refusals do not count."""
    target = decision.target
    if target.limits is None or question.find_exceeded is None:
        return UNCHECKED
    attributes = _parse_attributes(question, target)
    spending = plan_spending(target.limits, target.key, target.uid, decision.grant.identity.user, attributes)
    exceeded = question.find_exceeded(spending.minus(question.paid))
    if exceeded is not None:
        return denial.limit_exceeded(target.key, exceeded)
    return decision._replace(spending=spending)


PRECHECKS: Final[tuple[Precheck, ...]] = (_check_audit_log, _check_method, _check_synced, _check_credentials)
"""Checks before the caller is known, in their order. They need no TokenReview or SubjectAccessReview."""
CHECKS: Final[tuple[Check, ...]] = (
    _check_address,
    _check_host_and_path,
    _check_impersonation_header,
    _check_permissions,
    _check_connection_count,
    _check_limits,
)
"""Checks of a request by a verified caller, in their order."""
UNLIMITED_CHECKS: Final = tuple(check for check in CHECKS if check is not _check_limits)
"""CHECKS of a Connector without limits, because each call costs time in every request."""
CONNECT_CHECKS: Final = (_check_address, _check_connection_count)
"""Those of CHECKS that apply to a CONNECT."""
