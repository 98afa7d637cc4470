"""Reconciler of AccessPolicies, AccessRequests and AccessApprovals: their status, their events, and the clean-up.

Nothing that it writes grants access. Proxies compute the grants from the specs. All times are the API server's.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from connector_controller.approval_tasks import ApprovalTasks
from connector_controller.connectors import EventSink
from connector_controller.event_recorder import Regarding
from connector_controller.metrics import ControllerMetrics
from connector_controller.observed import ObjectCache
from connector_controller.pending_requests import PendingRequests, RequestSubject
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import parse_time
from connector_store.domain.grants.access_index import AccessIndex
from connector_store.domain.grants.request_pod import is_gone, needs_pod, pod_interval, pod_uid
from connector_store.domain.objects.access_objects import AccessApproval, AccessPolicy, AccessRequest, PodReference
from connector_store.domain.objects.manifest import API_VERSION
from connector_store.domain.objects.manifest_access import (
    parse_access_approval,
    parse_access_policy,
    parse_access_request,
)
from connector_store.domain.status.access_status import (
    RequestAssessment,
    RequestState,
    assess_policy,
    assess_request,
    next_check_at,
    refuse_surplus,
    removable_at,
)
from connector_store.domain.status.conditions import Assessment, next_status
from connector_store.domain.status.status import Status, parse_status, status_patch
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import suppress_status
from connector_store.kube.events import EventType
from connector_store.kube.resources import ACCESS_APPROVALS, ACCESS_POLICIES, ACCESS_REQUESTS, PODS, Resource
from connector_store.kube.sinks import Consumer

logger = logging.getLogger(__name__)

_RESOURCES: Final[Mapping[type, Resource]] = {
    AccessPolicy: ACCESS_POLICIES,
    AccessRequest: ACCESS_REQUESTS,
    AccessApproval: ACCESS_APPROVALS,
}
_EVENT_TYPES: Final[Mapping[str, EventType]] = {
    "Approved": "Normal",
    "Ended": "Normal",
    "Denied": "Warning",
    "NotEnforced": "Warning",
}
"""Types of events by the reason of the condition Ready of a request."""

TASK_UID: Final = "approvalTaskUID"
"""Field of a request's status: the ApprovalTask that decided. None decides again if the AccessApproval is deleted."""


class AccessKey(NamedTuple):
    """Key of an object of one of three kinds."""

    kind: type
    key: ObjectKey

    def __str__(self) -> str:
        return f"{self.kind.__name__} {self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedAccess:
    """Object and its status in one version. `fields` are those of the status besides the conditions."""

    obj: AccessPolicy | AccessRequest | AccessApproval
    status: Status
    generation: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_owned: bool = False
    """The object has an owner reference."""
    resource_version: str = field(default="", compare=False)

    @property
    def key(self) -> AccessKey:
        return AccessKey(type(self.obj), self.obj.key)


def parse_observed_access[T: (AccessPolicy, AccessRequest, AccessApproval)](
    parse: Callable[[Mapping[str, object]], T],
) -> Callable[[Mapping[str, Any]], ObservedAccess | None]:
    """Return a parser of objects with their status. It returns None for an object without an identity."""

    def parse_observed(raw: Mapping[str, Any]) -> ObservedAccess | None:
        try:
            obj = parse(raw)
        except ParseError as error:
            logger.warning("skipped a %s: %s", raw.get("kind"), error)
            return None
        metadata, status = raw.get("metadata") or {}, raw.get("status") or {}
        return ObservedAccess(
            obj=obj,
            status=parse_status(raw),
            generation=int(metadata.get("generation") or 1),
            fields={name: status.get(name) for name in ("startTime", "expirationTime", "approvedBy", TASK_UID)},
            is_owned=bool(metadata.get("ownerReferences")),
            resource_version=str(metadata.get("resourceVersion") or ""),
        )

    return parse_observed


_PARSERS: Final[Mapping[type, Callable[[Mapping[str, Any]], ObservedAccess | None]]] = {
    AccessPolicy: parse_observed_access(parse_access_policy),
    AccessRequest: parse_observed_access(parse_access_request),
    AccessApproval: parse_observed_access(parse_access_approval),
}


class AccessCaches:
    """Last state of each object. There is one cache for each watch. `on_change` gets the key of every change."""

    def __init__(self, on_change: Callable[[AccessKey], None]) -> None:
        self._on_change = on_change
        self._caches: dict[tuple[type, str | None], ObjectCache[AccessKey, ObservedAccess]] = {}

    @property
    def consumers(self) -> dict[Resource, Callable[[str | None], Consumer]]:
        """Return what creates the consumer of a watch. It gets the namespace, or None for all."""
        return {resource: partial(self._make_consumer, kind) for kind, resource in _RESOURCES.items()}

    def _make_consumer(self, kind: type, namespace: str | None) -> Consumer:
        cache: ObjectCache[AccessKey, ObservedAccess] = ObjectCache(lambda each: each.key, self._on_change)
        self._caches[kind, namespace] = cache
        return _PARSERS[kind], cache

    def get(self, key: AccessKey) -> ObservedAccess | None:
        for namespace in (key.key.namespace, None):
            cache = self._caches.get((key.kind, namespace))
            if cache is not None and (observed := cache.get(key)) is not None:
                return observed
        return None

    def all_keys(self) -> list[AccessKey]:
        return [observed.key for cache in self._caches.values() for observed in cache]

    def drop(self, namespace: str | None) -> None:
        """Forget what the watches of a namespace, or of all, have reported."""
        for kind in _RESOURCES:
            cache = self._caches.pop((kind, namespace), None)
            if cache is not None:
                cache.replace(())


class RequestCounts:
    """Number of AccessRequests by state, kept up to date one request at a time."""

    def __init__(self) -> None:
        self._states: dict[ObjectKey, RequestState] = {}
        self.by_state: dict[RequestState, int] = {"pending": 0, "approved": 0, "finished": 0}

    def update(self, key: ObjectKey, state: RequestState | None) -> None:
        """Count a request by its current state, or forget it if `state` is None."""
        previous = self._states.pop(key, None)
        if previous is not None:
            self.by_state[previous] -= 1
        if state is not None:
            self._states[key] = state
            self.by_state[state] += 1

    def show(self, metrics: ControllerMetrics) -> None:
        for state, count in self.by_state.items():
            metrics.access_requests.labels(state).set(count)


class AccessReconciler:
    """Level-triggered reconciler, by kind and key. `now` returns Unix seconds of the API server's clock."""

    def __init__(
        self,
        client: KubeClient,
        access: AccessIndex,
        observed: AccessCaches,
        *,
        tasks: ApprovalTasks,
        events: EventSink,
        enqueue: Callable[[AccessKey], None],
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._access = access
        self._observed = observed
        self._tasks = tasks
        self._events = events
        self._enqueue = enqueue
        self._now = now
        self.counts = RequestCounts()
        self._pending = PendingRequests(self._find_pending)
        self.is_admission_known = False
        """True when it is known whether the admission policies are in force. Before, no request can be judged."""

    async def reconcile(self, key: AccessKey) -> float | None:
        """Return the seconds to the next run without a change, or None. Raises ApiError if it must be retried."""
        observed = self._observed.get(key)
        obj = observed.obj if observed is not None else None
        if observed is None or obj is None or obj.is_deleted:
            if key.kind is AccessRequest:
                self.counts.update(key.key, None)
                self._enqueue_requests(self._pending.remove(key.key))
                self._tasks.forget(key.key)
            return None
        if isinstance(obj, AccessRequest):
            return await self._reconcile_request(observed, obj) if self.is_admission_known else None
        if isinstance(obj, AccessPolicy):
            if obj.task_check is not None:
                self._tasks.require()
            await self._update_status(observed, assess_policy(obj, self._tasks.problem), {})
        else:
            # The store reports changes by Connector. This Connector may not exist.
            self._enqueue_requests([ObjectKey(obj.key.namespace, obj.request_name)])
            if not observed.is_owned and obj.request_uid:
                await self._set_owner(observed, obj)
        return None

    async def _reconcile_request(self, observed: ObservedAccess, request: AccessRequest) -> float | None:
        now = self._now()
        is_decided = self._access.is_decided(request)
        pod = request.pod if needs_pod(request, is_decided=is_decided, now=now) else None
        if pod is not None and await self._check_pod(observed, request, pod):
            # The watch enqueues the request, or reports its deletion.
            return None
        assessment = self._assess(request, now)
        is_pending = assessment.state == "pending"
        self._enqueue_requests(self._pending.update(request, is_pending=is_pending))
        if is_pending and self._pending.is_surplus(request):
            assessment = refuse_surplus(assessment)
        self.counts.update(request.key, assessment.state)
        if await self._update_status(observed, assessment.conditions, assessment.fields):
            # The watch enqueues the request with its new status.
            return None
        await self._run_checks(observed, request, assessment)
        ready = observed.status.ready
        ready_since = parse_time(ready.last_transition_time) if ready is not None else None
        if ready_since is None:
            return None
        grant = assessment.grant
        if assessment.state == "finished" and now >= removable_at(request, grant, ready_since):
            await self._delete(request)
            return None
        check_at = next_check_at(request, grant, ready_since, now)
        seconds = math.inf if check_at is None else check_at - now + 1.0
        if pod is not None:
            seconds = min(seconds, pod_interval(request, now))
        return None if math.isinf(seconds) else seconds

    async def _run_checks(
        self, observed: ObservedAccess, request: AccessRequest, assessment: RequestAssessment
    ) -> None:
        """Let the checks of the policies approve or deny a pending request, once."""
        is_pending = assessment.state == "pending" and not observed.fields.get(TASK_UID)
        policies = self._access.find_checks(request) if is_pending else ()
        if not policies:
            self._tasks.forget(request.key)
            return
        # Before the read: a change after it enqueues the request.
        self._tasks.await_change(request)
        task_uid = await self._tasks.decide(request, policies)
        if task_uid:
            await self._patch(observed, {"status": {TASK_UID: task_uid}}, "status")

    async def _check_pod(self, observed: ObservedAccess, request: AccessRequest, reference: PodReference) -> bool:
        """Set the UID of the pod, or delete the request if its pod is gone. Return True if it did one of them."""
        pod = await self._client.find(PODS.path(*reference.key))
        if is_gone(reference, pod):
            await self._delete(request)
            return True
        uid = "" if reference.uid else pod_uid(request, pod)
        if uid:
            await self._patch(observed, {"spec": {"context": {"objectRef": {"uid": uid}}}})
        return bool(uid)

    def _assess(self, request: AccessRequest, now: float) -> RequestAssessment:
        return assess_request(
            request, self._access.judge(request), is_decided=self._access.is_decided(request), now=now
        )

    def _find_pending(self, subject: RequestSubject) -> Iterator[AccessRequest]:
        now = self._now()
        requests = self._access.requests_of(subject.namespace, subject.user)
        return (each for each in requests if self._assess(each, now).state == "pending")

    def _enqueue_requests(self, keys: Iterable[ObjectKey]) -> None:
        for key in keys:
            self._enqueue(AccessKey(AccessRequest, key))

    async def _update_status(
        self, observed: ObservedAccess, assessments: Mapping[str, Assessment], fields: Mapping[str, Any]
    ) -> bool:
        """Write the status if it differs. Return True if it did."""
        status = next_status(
            assessments,
            observed.status,
            generation=observed.generation,
            proxy=None,
            now=datetime.fromtimestamp(self._now(), UTC),
        )
        if status == observed.status and all(observed.fields.get(name) == value for name, value in fields.items()):
            return False
        body = {"status": {**status_patch(status, with_proxy=False), **fields}}
        await self._patch(observed, body, "status")
        self._record_event(observed, status)
        return True

    def _record_event(self, observed: ObservedAccess, status: Status) -> None:
        """Record that a request was approved or denied, that its access ended, or that it does not count."""
        previous, ready = observed.status.ready, status.ready
        if not isinstance(observed.obj, AccessRequest) or ready is None:
            return
        event_type = _EVENT_TYPES.get(ready.reason)
        if event_type is not None and (previous is None or previous.reason != ready.reason):
            regarding = Regarding(ACCESS_REQUESTS.kind, observed.obj.key, observed.obj.uid)
            self._events.record(regarding, event_type, ready.reason, ready.message)

    async def _set_owner(self, observed: ObservedAccess, approval: AccessApproval) -> None:
        """Make the request the owner of an approval, so that the garbage collector deletes both."""
        owner = {
            "apiVersion": API_VERSION,
            "kind": ACCESS_REQUESTS.kind,
            "name": approval.request_name,
            "uid": approval.request_uid,
        }
        await self._patch(observed, {"metadata": {"ownerReferences": [owner]}})

    async def _patch(self, observed: ObservedAccess, body: dict[str, Any], subresource: str | None = None) -> None:
        metadata = {"uid": observed.obj.uid, "resourceVersion": observed.resource_version, **body.get("metadata", {})}
        path = _RESOURCES[observed.key.kind].path(*observed.obj.key, subresource)
        # The object may have been deleted meanwhile.
        with suppress_status(HTTPStatus.NOT_FOUND):
            await self._client.patch(path, {**body, "metadata": metadata})

    async def _delete(self, request: AccessRequest) -> None:
        with suppress_status(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            await self._client.delete(ACCESS_REQUESTS.path(*request.key), uid=request.uid)
