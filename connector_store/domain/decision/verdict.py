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
from connector_store.domain.callers.caller import BasicAuthorization
from connector_store.domain.decision import denial
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.matching import authority_matches, host_matches, host_of, is_plain, path_within
from connector_store.domain.objects.models import Target, Unusable
from connector_store.domain.permissions.impersonation import write_impersonation_headers
from connector_store.domain.permissions.permissions import NotAllowed, parse_request_attributes

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
"""TRACE is not among them: its answer would show the credential (RFC 9110 section 9.3.8)."""

Found = Target | Unusable | None
"""What the store has for a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """Goes on to `target` with its credential.

    `role` is the ClusterRole that lends it, empty where all is lent, or all but what is denied. `caller` is header
    lines that tell the target who calls.
    """

    target: Target
    granted: Granted
    role: str = ""
    caller: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Goes on to `target` without a credential: its class makes authentication optional and no Secret is named."""

    target: Target
    granted: Granted
    role: str = ""
    caller: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """A tunnel for `key` may open; its caller comes inside, and nothing of the Connector is looked at before."""

    key: ObjectKey


Verdict = Inject | Deny | Forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the proxy's settings say: addresses that may be dialled, connections per caller and Connector."""

    policy: AddressPolicy = field(default_factory=AddressPolicy)
    max_connections: int = 1000


def before_access(*, full: bool, synced: bool, caller: BasicAuthorization | ParseError) -> Deny | BasicAuthorization:
    """What of a CONNECT is decided before anybody is asked: Deny, or whom to check."""
    if full:
        return denial.not_recorded()
    if not synced:
        return denial.not_synced()
    if isinstance(caller, ParseError):
        return denial.bad_credentials(caller, inside=False)
    return caller


def decide_connect(
    *,
    full: bool,
    synced: bool,
    caller: BasicAuthorization | ParseError,
    answer: AccessResult | None,
    found: Found,
    authority: str,
    rules: Rules,
    taken: int,
) -> Verdict | Defer:
    """Decide on a CONNECT.

    `full`: it would not be written down. `answer` is None where nobody was asked; `found` is the store's for the
    caller's key; `taken` counts the caller's other connections to that Connector.
    """
    asked = before_access(full=full, synced=synced, caller=caller)
    if isinstance(asked, Deny):
        return asked
    if asked.token is None:
        return Defer(key=asked.key) if host_of(authority) is not None else denial.bad_authority()
    admitted = _admit(asked.key, answer, found, authority, rules, inside=False)
    if isinstance(admitted, Deny):
        return admitted
    if taken >= rules.max_connections:
        return denial.too_many(rules.max_connections)
    return _going_on(*admitted)


def before_request(*, full: bool, method: bytes, synced: bool, token: str | ParseError) -> Deny | None:
    """What of a request is decided before anybody is asked."""
    if full:
        return denial.not_recorded()
    if method not in METHODS:
        return denial.bad_method()
    if not synced:
        return denial.not_synced()
    return denial.bad_credentials(token, inside=True) if isinstance(token, ParseError) else None


def decide_request(
    *,
    full: bool,
    method: bytes,
    synced: bool,
    token: str | ParseError,
    key: ObjectKey,
    answer: AccessResult | None,
    found: Found,
    authority: str | None,
    raw_target: bytes,
    headers: Headers,
    rules: Rules,
    taken: int,
) -> Verdict:
    """Decide on a request in a tunnel that was opened for `key` and `authority`, or for `key` alone (None).

    Without an authority `raw_target` lies below the path of the address, and Host is the proxy's own.

    `answer` is the access check's for `token`: the tunnel's or, where that comes inside, this request's, a ParseError
    if it has no readable one. `taken` counts the caller's other connections to that Connector.
    """
    refused = before_request(full=full, method=method, synced=synced, token=token)
    if refused is not None:
        return refused
    admitted = _admit(key, answer, found, authority, rules, inside=True)
    if isinstance(admitted, Deny):
        return admitted
    target, granted = admitted
    if authority is None:
        if not is_plain(raw_target):
            return denial.not_plain(key)
        raw_target = target.address.prefix.encode("ascii") + raw_target
    else:
        host, written = headers.single_value(b"host"), target.address.authority
        if host is None or (host.decode("latin-1") != written and not host_matches(host, target.address)):
            return denial.wrong_host(key, target.address)
        if not path_within(raw_target, target.address):
            return denial.path_outside(key, target.address)
    if headers.impersonation_header is not None:
        return denial.acts_as_another(headers.impersonation_header)
    role, caller = "", b""
    if target.lending is not None or target.impersonation is not None:
        limits = _limited(target, granted, method, raw_target, headers)
        if isinstance(limits, Deny):
            return limits
        role, caller = limits
    if taken >= rules.max_connections:
        return denial.too_many(rules.max_connections)
    return _going_on(target, granted, role, caller)


def _going_on(target: Target, granted: Granted, role: str = "", caller: bytes = b"") -> Inject | Forward:
    kind = Forward if target.credential is None else Inject
    return kind(target=target, granted=granted, role=role, caller=caller)


def _limited(
    target: Target, granted: Granted, method: bytes, raw_target: bytes, headers: Headers
) -> Deny | tuple[str, bytes]:
    """The role by which the Connector lends it, and as whom it goes on."""
    role, caller = "", b""
    if target.lending is not None:
        asked = parse_request_attributes(method, raw_target, headers, target.address.prefix)
        lent = target.lending.evaluate(asked)
        if isinstance(lent, NotAllowed):
            return denial.not_lent(target.key, asked.info, lent)
        role = lent.role
    if target.impersonation is not None:
        try:
            caller = write_impersonation_headers(target.impersonation, granted.identity)
        except ParseError as error:
            return denial.not_named(target.key, error)
    return role, caller


def _admit(
    key: ObjectKey, answer: AccessResult | None, found: Found, authority: str | None, rules: Rules, *, inside: bool
) -> Deny | tuple[Target, Granted]:
    if not isinstance(answer, Granted):
        return _refuse(key, answer, inside=inside)
    if found is None:
        return denial.not_allowed(key)
    if isinstance(found, Unusable):
        return denial.unusable(found)
    if authority not in (None, found.address.authority) and not authority_matches(authority, found.address):
        return denial.wrong_address(key, found.address)
    if rules.policy.denies(found.address.host):
        return denial.target_denied(found, found.address.host)
    return found, answer


def _refuse(key: ObjectKey, answer: Refused | Unavailable | None, *, inside: bool) -> Deny:
    if answer is None:
        return denial.internal()
    if isinstance(answer, Unavailable):
        return denial.unavailable(answer.retry_after, answer.public_reason)
    return denial.bad_token(inside=inside) if answer.check == "token" else denial.not_allowed(key)
