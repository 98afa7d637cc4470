"""The order of checks: one list for a CONNECT, and one for a request, each read from top to bottom.

can it be written down -> synced -> what is said of the caller -> who it is, and may it use this key -> the object ->
usable -> address -> address policy -> what the request would do -> how many connections. It is also the order of
knowledge: nobody learns about an object that they may not use. A new check is a line here, and its refusal in `denial`.
"""

from dataclasses import dataclass, field
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Refused, Unavailable
from connector_store.domain.callers.authorization_header import BasicAuthorization
from connector_store.domain.decision import denial
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.address_matching import (
    authority_matches,
    host_matches,
    host_of_authority,
    is_path_within,
    is_traversal_free,
)
from connector_store.domain.objects.models import Target, Unusable
from connector_store.domain.permissions.impersonation import write_impersonation_headers
from connector_store.domain.permissions.permissions import NotAllowed, parse_request_attributes

ALLOWED_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""TRACE is not among them: its answer would show the credential (RFC 9110 section 9.3.8)."""

Resolution = Target | Unusable | None
"""What the store has for a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """Goes on to `target` with its credential.

    `role` is the ClusterRole that lends it, empty where all is lent, or all but what is denied. `caller` is header
    lines that tell the target who calls.
    """

    target: Target
    grant: Granted
    role: str = ""
    impersonation_headers: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Goes on to `target` without a credential: its class makes authentication optional and no Secret is named."""

    target: Target
    grant: Granted
    role: str = ""
    impersonation_headers: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticateInTunnel:
    """A tunnel for `key` may open; its caller comes inside, and nothing of the Connector is looked at before."""

    key: ObjectKey


Verdict = Inject | Deny | Forward


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """What the proxy's settings say: addresses that may be dialled, connections per caller and Connector."""

    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    max_connections: int = 1000


def precheck_connect(
    *, audit_log_full: bool, synced: bool, credentials: BasicAuthorization | ParseError
) -> Deny | BasicAuthorization:
    """What of a CONNECT is decided before anybody is asked: Deny, or whom to check."""
    if audit_log_full:
        return denial.audit_log_full()
    if not synced:
        return denial.not_synced()
    if isinstance(credentials, ParseError):
        return denial.bad_credentials(credentials, is_request=False)
    return credentials


def decide_connect(
    *,
    audit_log_full: bool,
    synced: bool,
    credentials: BasicAuthorization | ParseError,
    access: AccessResult | None,
    resolution: Resolution,
    authority: str,
    policy: AccessPolicy,
    connection_count: int,
) -> Verdict | AuthenticateInTunnel:
    """Decide on a CONNECT.

    `full`: it would not be written down. `answer` is None where nobody was asked; `found` is the store's for the
    caller's key; `taken` counts the caller's other connections to that Connector.
    """
    precheck = precheck_connect(audit_log_full=audit_log_full, synced=synced, credentials=credentials)
    if isinstance(precheck, Deny):
        return precheck
    if precheck.token is None:
        return (
            AuthenticateInTunnel(key=precheck.key)
            if host_of_authority(authority) is not None
            else denial.bad_authority()
        )
    usable = _check_access(precheck.key, access, resolution, authority, policy, is_request=False)
    if isinstance(usable, Deny):
        return usable
    if connection_count >= policy.max_connections:
        return denial.too_many_connections(policy.max_connections)
    return _inject_or_forward(*usable)


def precheck_request(*, audit_log_full: bool, method: bytes, synced: bool, token: str | ParseError) -> Deny | None:
    """What of a request is decided before anybody is asked."""
    if audit_log_full:
        return denial.audit_log_full()
    if method not in ALLOWED_METHODS:
        return denial.bad_method()
    if not synced:
        return denial.not_synced()
    return denial.bad_credentials(token, is_request=True) if isinstance(token, ParseError) else None


def decide_request(
    *,
    audit_log_full: bool,
    method: bytes,
    synced: bool,
    token: str | ParseError,
    key: ObjectKey,
    access: AccessResult | None,
    resolution: Resolution,
    authority: str | None,
    raw_target: bytes,
    headers: Headers,
    policy: AccessPolicy,
    connection_count: int,
) -> Verdict:
    """Decide on a request in a tunnel that was opened for `key` and `authority`, or for `key` alone (None).

    Without an authority `raw_target` lies below the path of the address, and Host is the proxy's own.

    `answer` is the access check's for `token`: the tunnel's or, where that comes inside, this request's, a ParseError
    if it has no readable one. `taken` counts the caller's other connections to that Connector.
    """
    deny = precheck_request(audit_log_full=audit_log_full, method=method, synced=synced, token=token)
    if deny is not None:
        return deny
    usable = _check_access(key, access, resolution, authority, policy, is_request=True)
    if isinstance(usable, Deny):
        return usable
    target, grant = usable
    if authority is None:
        if not is_traversal_free(raw_target):
            return denial.path_traversal(key)
        raw_target = target.address.prefix.encode("ascii") + raw_target
    else:
        host, expected = headers.single_value(b"host"), target.address.authority
        if host is None or (host.decode("latin-1") != expected and not host_matches(host, target.address)):
            return denial.wrong_host(key, target.address)
        if not is_path_within(raw_target, target.address):
            return denial.path_outside(key, target.address)
    if headers.impersonation_header is not None:
        return denial.impersonation_header(headers.impersonation_header)
    role, impersonation_headers = "", b""
    if target.permissions is not None or target.impersonation is not None:
        permitted = _check_permissions(target, grant, method, raw_target, headers)
        if isinstance(permitted, Deny):
            return permitted
        role, impersonation_headers = permitted
    if connection_count >= policy.max_connections:
        return denial.too_many_connections(policy.max_connections)
    return _inject_or_forward(target, grant, role, impersonation_headers)


def _inject_or_forward(
    target: Target, grant: Granted, role: str = "", impersonation_headers: bytes = b""
) -> Inject | Forward:
    kind = Forward if target.credential is None else Inject
    return kind(target=target, grant=grant, role=role, impersonation_headers=impersonation_headers)


def _check_permissions(
    target: Target, grant: Granted, method: bytes, raw_target: bytes, headers: Headers
) -> Deny | tuple[str, bytes]:
    """The role by which the Connector lends it, and as whom it goes on."""
    role, impersonation_headers = "", b""
    if target.permissions is not None:
        attributes = parse_request_attributes(method, raw_target, headers, target.address.prefix)
        result = target.permissions.evaluate(attributes)
        if isinstance(result, NotAllowed):
            return denial.not_permitted(target.key, attributes.info, result)
        role = result.role
    if target.impersonation is not None:
        try:
            impersonation_headers = write_impersonation_headers(target.impersonation, grant.identity)
        except ParseError as error:
            return denial.cannot_impersonate(target.key, error)
    return role, impersonation_headers


def _check_access(
    key: ObjectKey,
    access: AccessResult | None,
    resolution: Resolution,
    authority: str | None,
    policy: AccessPolicy,
    *,
    is_request: bool,
) -> Deny | tuple[Target, Granted]:
    if not isinstance(access, Granted):
        return _deny_access(key, access, is_request=is_request)
    if resolution is None:
        return denial.access_denied(key)
    if isinstance(resolution, Unusable):
        return denial.unusable(resolution)
    if authority not in (None, resolution.address.authority) and not authority_matches(authority, resolution.address):
        return denial.wrong_address(key, resolution.address)
    if policy.addresses.denies(resolution.address.host):
        return denial.target_denied(resolution, resolution.address.host)
    return resolution, access


def _deny_access(key: ObjectKey, access: Refused | Unavailable | None, *, is_request: bool) -> Deny:
    if access is None:
        return denial.internal_error()
    if isinstance(access, Unavailable):
        return denial.unavailable(access.retry_after, access.public_reason)
    return denial.bad_token(is_request=is_request) if access.check == "token" else denial.access_denied(key)
