"""Access decisions: the checks of a CONNECT and of a request, in their order.

audit log -> synced -> credentials -> authentication and authorization for the key -> the object exists -> it is
usable -> address -> address policy -> permissions -> number of connections. The order keeps a secret: callers learn
nothing about an object that they may not use. To add a check, add a line here and its refusal in `denial`.
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
"""TRACE is not allowed, because its response would contain the credential (RFC 9110 section 9.3.8)."""

Resolution = Target | Unusable | None
"""Result of a lookup of a key in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """Decision to send the request to `target` with its credential.

    `role` is the ClusterRole that allowed it. It is empty if the Connector has no `allow`. `impersonation_headers` are
    header lines that tell the target who the caller is.
    """

    target: Target
    grant: Granted
    role: str = ""
    impersonation_headers: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Decision to send the request to `target` without a credential, because authentication is optional."""

    target: Target
    grant: Granted
    role: str = ""
    impersonation_headers: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticateInTunnel:
    """Decision to open a tunnel for `key`. Each request in it authenticates, and then the Connector is checked."""

    key: ObjectKey


Decision = Inject | Forward | Deny


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """Limits from the proxy's settings: allowed addresses, and connections of one caller to one Connector."""

    addresses: AddressPolicy = field(default_factory=AddressPolicy)
    max_connections: int = 1000


def precheck_connect(
    *, audit_log_full: bool, synced: bool, credentials: BasicAuthorization | ParseError
) -> Deny | BasicAuthorization:
    """Run the checks of a CONNECT that need no TokenReview or SubjectAccessReview."""
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
) -> Decision | AuthenticateInTunnel:
    """Decide on a CONNECT.

    `audit_log_full`: the audit log accepts no more records. `access` is None if no check was made. `resolution` is the
    store's value for the key in `credentials`. `connection_count` is the number of the caller's other connections to
    the Connector.
    """
    precheck = precheck_connect(audit_log_full=audit_log_full, synced=synced, credentials=credentials)
    if isinstance(precheck, Deny):
        return precheck
    if precheck.token is None:
        if host_of_authority(authority) is None:
            return denial.bad_authority()
        return AuthenticateInTunnel(key=precheck.key)
    usable = _check_access(precheck.key, access, resolution, authority, policy, is_request=False)
    if isinstance(usable, Deny):
        return usable
    if connection_count >= policy.max_connections:
        return denial.too_many_connections(policy.max_connections)
    return _inject_or_forward(*usable)


def precheck_request(*, audit_log_full: bool, method: bytes, synced: bool, token: str | ParseError) -> Deny | None:
    """Run the checks of a request that need no TokenReview or SubjectAccessReview."""
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
) -> Decision:
    """Decide on a request.

    In a tunnel, `key` and `authority` are those of its CONNECT. With direct access, `authority` is None, `raw_target`
    is relative to the path of the Connector's address, and Host is the proxy's own.

    `token` is the token of the tunnel, or of this request if the tunnel has none. It is a ParseError if the request
    has no valid one. `access` is the result of the access check for `token`. `connection_count` is the number of the
    caller's other connections to the Connector.
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
    decision = Forward if target.credential is None else Inject
    return decision(target=target, grant=grant, role=role, impersonation_headers=impersonation_headers)


def _check_permissions(
    target: Target, grant: Granted, method: bytes, raw_target: bytes, headers: Headers
) -> Deny | tuple[str, bytes]:
    """Return the role that allows the request, and the impersonation headers for it."""
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
