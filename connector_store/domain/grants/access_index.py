"""Index of the objects that allow or lock the use of Connectors, for decisions on the data path.

A namespace without such objects costs a decision one lookup. In another namespace, the results for a caller and a
Connector are kept until an object of the namespace changes. The ends of grants are compared with the API server's clock
every CLOCK_INTERVAL, and with the boot-time clock each time.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from connector_store.domain.base.label_selector import Labels
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import POD_UID, Identity
from connector_store.domain.grants.access_grant import (
    AccessGrant,
    Moment,
    NotGranted,
    is_checkable,
    judge_request,
    judges,
)
from connector_store.domain.grants.default_permission import find_default_policy
from connector_store.domain.grants.locks import applies_to, find_lock, is_in_force
from connector_store.domain.objects.access_objects import (
    AccessApproval,
    AccessLock,
    AccessObject,
    AccessPolicy,
    AccessRequest,
    Namespace,
)
from connector_store.domain.objects.models import Connector

MAX_CACHED_RESULTS: Final = 20_000
"""Maximum number of results for a caller and a Connector of one namespace. Beyond it, all of them are dropped."""

CLOCK_INTERVAL: Final = 0.25
"""Seconds between two looks at the API server's clock, which can be corrected meanwhile."""

_ConnectorLookup = Callable[[ObjectKey], Connector | None]


class AccessClock(NamedTuple):
    """Clocks that decide on the ends of grants and locks."""

    server: Callable[[], float]
    """Return the API server's time in Unix seconds."""
    boot: Callable[[], float]
    """Return the seconds of a clock that cannot be set."""

    def read(self) -> Moment:
        return Moment(self.server(), self.boot())


class Entitlement(NamedTuple):
    """Rights of a caller by policies and requests, besides RBAC.

    `policy` is the name of the policy with a default permission for the caller, or an empty string. `grants` have not
    ended. The first one ends last.
    """

    policy: str = ""
    grants: tuple[AccessGrant, ...] = ()


NO_ENTITLEMENT: Final = Entitlement()


class Scope(NamedTuple):
    """Connectors that a change may affect. None stands for all namespaces, or for all names."""

    namespace: str | None
    names: frozenset[str] | None = None

    def contains(self, key: ObjectKey) -> bool:
        is_in_namespace = self.namespace is None or key.namespace == self.namespace
        return is_in_namespace and (self.names is None or key.name in self.names)


NOTHING: Final = Scope(None, frozenset())


@dataclass(slots=True)
class _Result:
    """Entitlement of a caller for a Connector, with all grants, and with those that have not ended.

    The latter is right until `fresh_until`, in seconds of the boot-time clock.
    """

    all: Entitlement
    current: Entitlement
    fresh_until: float


@dataclass(slots=True)
class _NamespaceIndex:
    """Objects of one namespace by name, and results by Connector, user and pod."""

    policies: dict[str, AccessPolicy] = field(default_factory=dict)
    requests: dict[str, AccessRequest] = field(default_factory=dict)
    approvals: dict[str, AccessApproval] = field(default_factory=dict)
    requests_by_use: dict[tuple[str, str], dict[str, AccessRequest]] = field(default_factory=dict)
    """Requests by Connector and subject."""
    requests_by_subject: dict[str, dict[str, AccessRequest]] = field(default_factory=dict)
    approvals_by_request: dict[str, dict[str, AccessApproval]] = field(default_factory=dict)
    """Approvals by the UID of their request."""
    results: dict[tuple[str, str, tuple[str, ...] | None], _Result] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.policies or self.requests or self.approvals)


class AccessIndex:
    """Index of policies, requests, approvals and locks. See the module's docstring."""

    def __init__(self, get_connector: _ConnectorLookup, *, clock: AccessClock) -> None:
        self._get_connector = get_connector
        self._clock = clock
        self._namespaces: dict[str, _NamespaceIndex] = {}
        self._labels: dict[str, Labels] = {}
        self._locks: dict[ObjectKey, AccessLock] = {}
        self._locks_by_connector: dict[ObjectKey, tuple[AccessLock, ...]] = {}
        self._first_seen_at: dict[str, float] = {}
        """Boot time at which an approval was seen first, by its UID."""
        self._enforced_since: float | None = None
        self.has_objects = False
        """True if there is a policy, request, approval or lock. An attribute, because each request reads it."""
        self.system_namespace = ""
        self.exempt_group = ""
        """Group whose members are never locked out."""

    @property
    def has_locks(self) -> bool:
        return bool(self._locks)

    @property
    def counts(self) -> dict[str, int]:
        """Number of objects by kind."""
        indexes = self._namespaces.values()
        return {
            "AccessPolicy": sum(len(index.policies) for index in indexes),
            "AccessRequest": sum(len(index.requests) for index in indexes),
            "AccessApproval": sum(len(index.approvals) for index in indexes),
            "AccessLock": len(self._locks),
        }

    def set_enforced_since(self, time: float | None) -> bool:
        """Set the time since which the admission policies are in force, or None. Return True if it changed."""
        has_changed = time != self._enforced_since
        if has_changed:
            self._enforced_since = time
            for index in self._namespaces.values():
                index.results.clear()
        return has_changed

    def set(self, kind: type, key: ObjectKey, obj: AccessObject | None) -> Scope:
        """Set or remove an object. Return the Connectors that it may affect."""
        scope = self._set(kind, key, obj)
        self.has_objects = bool(self._namespaces or self._locks)
        return scope

    def _set(self, kind: type, key: ObjectKey, obj: AccessObject | None) -> Scope:
        if kind is Namespace:
            return self._set_labels(key.name, obj.labels if isinstance(obj, Namespace) else None)
        if kind is AccessLock:
            set_or_pop(self._locks, key, obj if isinstance(obj, AccessLock) else None)
            self._locks_by_connector.clear()
            return Scope(None if key.namespace == self.system_namespace else key.namespace)
        index = self._namespaces.setdefault(key.namespace, _NamespaceIndex())
        index.results.clear()
        scope = Scope(key.namespace)
        if kind is AccessPolicy:
            set_or_pop(index.policies, key.name, obj if isinstance(obj, AccessPolicy) else None)
        elif kind is AccessRequest:
            scope = _set_request(index, key, obj if isinstance(obj, AccessRequest) else None)
        else:
            scope = self._set_approval(index, key, obj if isinstance(obj, AccessApproval) else None)
        if index.is_empty:
            del self._namespaces[key.namespace]
        return scope

    def _set_labels(self, namespace: str, labels: Labels | None) -> Scope:
        set_or_pop(self._labels, namespace, labels)
        for index in self._namespaces.values():
            index.results.clear()
        return Scope(None) if self._namespaces else NOTHING

    def on_connector_changed(self, key: ObjectKey) -> None:
        """Drop the results that depend on the Connector."""
        self._locks_by_connector.pop(key, None)
        if (index := self._namespaces.get(key.namespace)) is not None:
            index.results.clear()

    def _set_approval(self, index: _NamespaceIndex, key: ObjectKey, approval: AccessApproval | None) -> Scope:
        previous = index.approvals.get(key.name)
        if previous is not None:
            _remove_from(index.approvals_by_request, previous.request_uid, key.name)
            if approval is None or approval.uid != previous.uid:
                self._first_seen_at.pop(previous.uid, None)
        set_or_pop(index.approvals, key.name, approval)
        if approval is not None:
            index.approvals_by_request.setdefault(approval.request_uid, {})[key.name] = approval
            self._first_seen_at.setdefault(approval.uid, self._clock.boot())
        requests = [index.requests.get(each.request_name) for each in (previous, approval) if each is not None]
        names = frozenset(request.connector for request in requests if request is not None)
        return Scope(key.namespace, names)

    def find_entitlement(self, identity: Identity, key: ObjectKey) -> Entitlement:
        """Return what policies and requests give to the caller now."""
        index = self._namespaces.get(key.namespace)
        if index is None:
            return NO_ENTITLEMENT
        cache_key = (key.name, identity.user, identity.extra.get(POD_UID))
        result = index.results.get(cache_key)
        if result is not None and self._clock.boot() < result.fresh_until:
            return result.current
        if result is None:
            entitlement = self._evaluate(index, identity, key)
            result = _Result(entitlement, entitlement, math.inf)
            if len(index.results) >= MAX_CACHED_RESULTS:
                index.results.clear()
            index.results[cache_key] = result
        if result.all.grants:
            self._refresh(result)
        return result.current

    def _refresh(self, result: _Result) -> None:
        """Compare the ends of the grants with both clocks."""
        now = self._clock.read()
        remaining = [(self._remaining(grant, now), grant) for grant in result.all.grants]
        result.current = Entitlement(result.all.policy, tuple(grant for seconds, grant in remaining if seconds > 0))
        ends = (seconds for seconds, _ in remaining if seconds > 0)
        result.fresh_until = now.boot + min((CLOCK_INTERVAL, *ends))

    def _evaluate(self, index: _NamespaceIndex, identity: Identity, key: ObjectKey) -> Entitlement:
        connector = self._get_connector(key)
        if connector is None or connector.is_deleted:
            return NO_ENTITLEMENT
        policy = find_default_policy(index.policies.values(), connector, identity, self._labels.get)
        grants = [grant for grant in self._grants(index, connector, identity.user) if grant.is_for(identity)]
        grants.sort(key=lambda grant: (grant.ends_at, grant.request), reverse=True)
        return Entitlement(policy.key.name if policy is not None else "", tuple(grants))

    def _grants(self, index: _NamespaceIndex, connector: Connector, user: str) -> Iterator[AccessGrant]:
        for request in index.requests_by_use.get((connector.key.name, user), {}).values():
            # Without this check, a caller with thousands of pending requests would delay other callers.
            if request.uid not in index.approvals_by_request:
                continue
            grant = self._judge(index, request, connector)
            if isinstance(grant, AccessGrant):
                yield grant

    def may_be_entitled(self, identity: Identity, key: ObjectKey) -> bool:
        """Return True if a policy or a grant is for the caller, with a token of whatever pod."""
        index, connector = self._namespaces.get(key.namespace), self._get_connector(key)
        if index is None or connector is None:
            return False
        now = self._clock.read()
        return any(self._remaining(grant, now) > 0 for grant in self._grants(index, connector, identity.user)) or bool(
            self.find_entitlement(identity, key).policy
        )

    def remaining(self, grant: AccessGrant) -> float:
        """Return the seconds until the end of a grant, or 0 or less after it."""
        return self._remaining(grant, self._clock.read())

    def _remaining(self, grant: AccessGrant, now: Moment) -> float:
        return grant.remaining(now, self._first_seen_at.get(grant.approval_uid, now.boot))

    def find_lock(self, identity: Identity, key: ObjectKey) -> AccessLock | None:
        """Return a lock that holds for the caller and the Connector now, or None."""
        locks = self._locks_by_connector.get(key)
        if locks is None:
            connector = self._get_connector(key)
            if connector is None:
                return None
            names = sorted(self._locks)
            locks = tuple(
                self._locks[name] for name in names if applies_to(self._locks[name], connector, self.system_namespace)
            )
            self._locks_by_connector[key] = locks
        return find_lock(locks, identity, self._clock.server(), exempt_group=self.exempt_group) if locks else None

    def current_locks(self) -> tuple[AccessLock, ...]:
        """Return the locks that are in force now, by name."""
        now = self._clock.server()
        return tuple(self._locks[name] for name in sorted(self._locks) if is_in_force(self._locks[name], now))

    def judge(self, request: AccessRequest) -> AccessGrant | NotGranted:
        """Return the grant of a request, which may have ended, or the reason why there is none."""
        index = self._namespaces.get(request.key.namespace, _NamespaceIndex())
        return self._judge(index, request, self._get_connector(ObjectKey(request.key.namespace, request.connector)))

    def is_decided(self, request: AccessRequest) -> bool:
        """Return True if another user than the requester and the subject approved or denied the request."""
        index = self._namespaces.get(request.key.namespace, _NamespaceIndex())
        approvals = index.approvals_by_request.get(request.uid, {})
        return any(each.by and each.by not in (request.requester, request.subject) for each in approvals.values())

    @property
    def has_task_checks(self) -> bool:
        """True if the check of a policy reads ApprovalTasks."""
        return any(policy.task_check for index in self._namespaces.values() for policy in index.policies.values())

    def find_checks(self, request: AccessRequest) -> tuple[AccessPolicy, ...]:
        """Return the policies whose check can approve the request, by name."""
        connector = self._get_connector(ObjectKey(request.key.namespace, request.connector))
        index = self._namespaces.get(request.key.namespace, _NamespaceIndex())
        if connector is None or connector.is_deleted or not is_checkable(request):
            return ()
        policies = (index.policies[name] for name in sorted(index.policies))
        return tuple(policy for policy in policies if policy.task_check is not None and judges(policy, connector))

    def requests_of(self, namespace: str, subject: str) -> Iterator[AccessRequest]:
        """Return the requests of a namespace with this subject."""
        index = self._namespaces.get(namespace, _NamespaceIndex())
        return iter(index.requests_by_subject.get(subject, {}).values())

    def requests_for(self, connector: ObjectKey) -> tuple[ObjectKey, ...]:
        """Return the keys of the requests for a Connector."""
        index = self._namespaces.get(connector.namespace, _NamespaceIndex())
        return tuple(
            request.key
            for (name, _), requests in index.requests_by_use.items()
            if name == connector.name
            for request in requests.values()
        )

    def _judge(
        self, index: _NamespaceIndex, request: AccessRequest, connector: Connector | None
    ) -> AccessGrant | NotGranted:
        approvals = index.approvals_by_request.get(request.uid, {})
        return judge_request(
            request, approvals.values(), index.policies.get, connector, enforced_since=self._enforced_since
        )


def _set_request(index: _NamespaceIndex, key: ObjectKey, request: AccessRequest | None) -> Scope:
    previous = index.requests.get(key.name)
    if previous is not None:
        _remove_from(index.requests_by_use, (previous.connector, previous.subject), key.name)
        _remove_from(index.requests_by_subject, previous.subject, key.name)
    set_or_pop(index.requests, key.name, request)
    if request is not None:
        index.requests_by_use.setdefault((request.connector, request.subject), {})[key.name] = request
        index.requests_by_subject.setdefault(request.subject, {})[key.name] = request
    return Scope(key.namespace, frozenset(each.connector for each in (previous, request) if each is not None))


def set_or_pop[K, V](mapping: dict[K, V], key: K, value: V | None) -> None:
    """Set the value of a key, or remove the key if the value is None."""
    if value is None:
        mapping.pop(key, None)
    else:
        mapping[key] = value


def _remove_from[K, V](groups: dict[K, dict[str, V]], group: K, name: str) -> None:
    members = groups.get(group, {})
    members.pop(name, None)
    if not members:
        groups.pop(group, None)
