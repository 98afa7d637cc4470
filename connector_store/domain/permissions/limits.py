"""Limits of the number of requests and sessions of a Connector (`spec.limits`).

    limits:
      requestsPerSecond: 20      all requests of one caller
      burst: 40                  requests after an idle time
      writesPerMinute: 30        requests that are not reads
      deletesPerHour: 10         deletions of one object, and evictions
      bulkDeletesPerHour: 0      deletecollection, and deletions of a namespace or of a CustomResourceDefinition
      sessions: 2                exec, attach, port-forward and other streams at the same time

Each limit holds for one caller of the Connector, that is one verified user name. Multiples of it hold for the callers
of one namespace and for all callers of the Connector together, so that several accounts do not get around a limit.

>>> limits = Limits(deletes_per_hour=10)
>>> [rate.field for rate in request_rates(limits, _DELETION)]
['deletesPerHour']
"""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX
from connector_store.domain.permissions.request_attributes import RequestAttributes, requires_create

MAX_LIMIT: Final = 1_000_000
"""Maximum value of a limit."""
NAMESPACE_FACTOR: Final = 4
"""Factor of the limits of all ServiceAccounts of one namespace together."""
CONNECTOR_FACTOR: Final = 16
"""Factor of the limits of all callers of one Connector together."""
SESSIONS: Final = "sessions"

_READS: Final = frozenset({"get", "list", "watch", "head", "options"})
_REVIEW_GROUPS: Final = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
"""API groups whose objects are created for the response only, so that `kubectl auth can-i` is not a write."""
_CONTAINERS: Final = frozenset({("", "namespaces"), ("apiextensions.k8s.io", "customresourcedefinitions")})
"""Resources whose deletion deletes other objects, too."""
_DELETION: Final = RequestAttributes(
    info=RequestInfo("delete", "", "pods", "", "web", "a", "/api/v1/namespaces/web/pods/a"), is_canonical=True
)


class Rate(NamedTuple):
    """A limit of requests: `amount` in each `period`, and at most `burst` at once. `field` is its name in the spec."""

    field: str
    amount: int
    period: Literal["second", "minute", "hour"]
    burst: int

    @property
    def per_second(self) -> float:
        return self.amount / {"second": 1, "minute": 60, "hour": 3600}[self.period]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`spec.limits` of a Connector. None: no limit of this kind."""

    requests_per_second: int | None = None
    burst: int | None = None
    writes_per_minute: int | None = None
    deletes_per_hour: int | None = None
    bulk_deletes_per_hour: int | None = None
    sessions: int | None = None


class LimitScope(NamedTuple):
    """Callers that share a limit. It is `factor` times the limit of one caller.

    `kind` is empty for one caller. `name` is that of the user or of the namespace.
    """

    kind: Literal["", "namespace", "connector"]
    name: str
    factor: int


class Exceeded(NamedTuple):
    """A limit that a request exceeds. `wait` is the number of seconds until the request is within it, if known."""

    rate: Rate
    scope: LimitScope
    wait: float | None


class Spending(NamedTuple):
    """Limits that a request counts against: rates and sessions, for each scope of its caller at one Connector."""

    key: ObjectKey
    uid: str
    scopes: tuple[LimitScope, ...]
    rates: tuple[Rate, ...]
    sessions: Rate | None = None
    """Limit of sessions, if the request opens one."""

    def minus(self, paid: "Spending | None") -> "Spending":
        """Return what is left after `paid`, an earlier spending of the same request."""
        if paid is None or (paid.key, paid.uid, paid.scopes) != (self.key, self.uid, self.scopes):
            return self
        return self._replace(rates=tuple(rate for rate in self.rates if rate not in paid.rates))


_FIELDS: Final = ("requestsPerSecond", "burst", "writesPerMinute", "deletesPerHour", "bulkDeletesPerHour", SESSIONS)


def parse_limits(spec: Fields) -> Limits | None:
    """Parse `limits` of a Connector's spec. Return None if it is absent. ParseError names the field."""
    if spec.value("limits") is None:
        return None
    fields = spec.child("limits")
    fields.reject_others(_FIELDS, f"limits has {', '.join(_FIELDS)}")
    limits = Limits(
        requests_per_second=_parse_number(fields, "requestsPerSecond", minimum=1),
        burst=_parse_number(fields, "burst", minimum=1),
        writes_per_minute=_parse_number(fields, "writesPerMinute"),
        deletes_per_hour=_parse_number(fields, "deletesPerHour"),
        bulk_deletes_per_hour=_parse_number(fields, "bulkDeletesPerHour"),
        sessions=_parse_number(fields, SESSIONS),
    )
    if limits == Limits():
        raise ParseError(fields.path, "is empty; set one of its fields, or leave it out")
    if limits.burst is not None and limits.burst < (limits.requests_per_second or MAX_LIMIT + 1):
        raise ParseError(fields.path_of("burst"), "is smaller than requestsPerSecond, or requestsPerSecond is missing")
    return limits


def _parse_number(fields: Fields, name: str, *, minimum: int = 0) -> int | None:
    if fields.value(name) is None:
        return None
    number = fields.number(name)
    if not minimum <= number <= MAX_LIMIT:
        raise ParseError(fields.path_of(name), f"is not between {minimum} and {MAX_LIMIT}")
    return number


def request_rates(limits: Limits, attributes: RequestAttributes) -> tuple[Rate, ...]:
    """Return the limits that a request counts against."""
    rates = []
    if limits.requests_per_second is not None:
        burst = limits.requests_per_second if limits.burst is None else limits.burst
        rates.append(Rate("requestsPerSecond", limits.requests_per_second, "second", burst))
    if not _is_write(attributes):
        return tuple(rates)
    if limits.writes_per_minute is not None:
        rates.append(Rate("writesPerMinute", limits.writes_per_minute, "minute", limits.writes_per_minute))
    info = attributes.info
    if _is_bulk_deletion(info):
        bulk = limits.bulk_deletes_per_hour
        if bulk is None and (limits.writes_per_minute is not None or limits.deletes_per_hour is not None):
            bulk = 0
        if bulk is not None:
            rates.append(Rate("bulkDeletesPerHour", bulk, "hour", bulk))
    elif limits.deletes_per_hour is not None and (info.verb == "delete" or info.subresource == "eviction"):
        rates.append(Rate("deletesPerHour", limits.deletes_per_hour, "hour", limits.deletes_per_hour))
    return tuple(rates)


def _is_write(attributes: RequestAttributes) -> bool:
    """Return True for every request that is not known to be a read, and for every stream."""
    info = attributes.info
    if opens_session(attributes):
        return True
    return info.verb not in _READS and not (info.verb == "create" and info.group in _REVIEW_GROUPS)


def _is_bulk_deletion(info: RequestInfo) -> bool:
    if info.verb == "deletecollection":
        return True
    return info.verb == "delete" and (info.group, info.resource) in _CONTAINERS and not info.subresource


def opens_session(attributes: RequestAttributes) -> bool:
    """Return True for exec, attach, port-forward and every other upgrade of a subresource except `log`."""
    return requires_create(attributes.info.subresource, is_upgrade=attributes.is_upgrade)


def session_rate(limits: Limits, attributes: RequestAttributes) -> Rate | None:
    """Return the limit of sessions if the request opens one."""
    if limits.sessions is None or not opens_session(attributes):
        return None
    return Rate(SESSIONS, limits.sessions, "second", limits.sessions)


def plan_spending(limits: Limits, key: ObjectKey, uid: str, user: str, attributes: RequestAttributes) -> Spending:
    """Return what a request of `user` for the Connector `key` counts against."""
    return Spending(key, uid, scopes_of(user), request_rates(limits, attributes), session_rate(limits, attributes))


def scopes_of(user: str) -> tuple[LimitScope, ...]:
    """Return the scopes of a caller: itself, the namespace of its ServiceAccount, and the Connector."""
    connector = LimitScope("connector", "", CONNECTOR_FACTOR)
    namespace, separator, _ = user.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    if user.startswith(SERVICE_ACCOUNT_PREFIX) and separator:
        return LimitScope("", user, 1), LimitScope("namespace", namespace, NAMESPACE_FACTOR), connector
    return LimitScope("", user, 1), connector
