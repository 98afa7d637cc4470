"""Approvals of Tekton's ApprovalTasks, as AccessApprovals for the requests of pods.

The controller reads the objects only if a policy has the check. It proves first that the API server has the kind, that
the controller has its rights, and that the admission policy for ApprovalTasks is in force. Then a watch of metadata
says in which namespaces ApprovalTasks change. What decides is read from the API server each time.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Never

from connector_controller.admission_proof import NOT_PROVED, TASK_PROOF, AdmissionProof
from connector_controller.connectors import EventSink
from connector_controller.event_recorder import Regarding
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.printable import printable
from connector_store.domain.grants.access_grant import may_decide
from connector_store.domain.grants.access_index import AccessIndex
from connector_store.domain.grants.approval_task import (
    ApprovalTask,
    TaskAnswer,
    TektonObject,
    find_approval_runs,
    is_named,
    parse_approval_task,
    parse_tekton_object,
)
from connector_store.domain.grants.request_pod import pod_uid
from connector_store.domain.objects.access_objects import AccessPolicy, AccessRequest
from connector_store.domain.objects.manifest import API_VERSION
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import suppress_status
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import (
    ACCESS_APPROVALS,
    ACCESS_POLICIES,
    ACCESS_REQUESTS,
    APPROVAL_TASKS,
    CUSTOM_RUNS,
    GROUP,
    PIPELINE_RUNS,
    PODS,
    SUBJECT_ACCESS_REVIEWS,
    TASK_RUNS,
    Resource,
)

logger = logging.getLogger(__name__)

MAX_COMMENT: Final = 1024
"""Maximum length of the comment of an AccessApproval, as in the CustomResourceDefinition."""

_StartTask = Callable[[Coroutine[Any, Any, Never]], asyncio.Task[Never]]


class ApprovalTasks:
    """Source of approvals. `reconcile` has one key; `decide` is called for each request that waits for a check."""

    def __init__(
        self,
        client: KubeClient,
        access: AccessIndex,
        *,
        system_namespace: str,
        events: EventSink,
        enqueue: Callable[[ObjectKey], None],
        wake: Callable[[], None],
        on_proof: Callable[[], None],
        start: _StartTask,
    ) -> None:
        """Create the source. `enqueue` gets requests to look at again. `wake` makes `reconcile` run.

        `on_proof` is called when `problem` changed. `start` starts the watch.
        """
        self._client = client
        self._access = access
        self._events = events
        self._enqueue = enqueue
        self._wake = wake
        self._on_proof = on_proof
        self._start = start
        self._proof = AdmissionProof(
            client, system_namespace=system_namespace, on_proof=self._set_enforced_since, proof=TASK_PROOF
        )
        self._enforced_since: float | None = None
        self._pod_namespaces: dict[ObjectKey, str] = {}
        """Namespace of the pod of each request that waits."""
        self._watch: asyncio.Task[Never] | None = None
        self._is_running = False

    @property
    def problem(self) -> str:
        """Why no check can run, or an empty string."""
        return self._proof.problem or ""

    def require(self) -> None:
        """Make `reconcile` run from now on, until no policy has a check."""
        if not self._is_running:
            self._is_running = True
            self._wake()

    async def reconcile(self, key: str) -> float | None:
        """Prove that ApprovalTasks can be trusted, and watch them. Return the seconds until the next run."""
        if not self._access.has_task_checks:
            self._is_running, self._enforced_since, self._proof.problem = False, None, NOT_PROVED
            self._set_watching(False)
            return None
        previous = self._proof.problem
        interval = await self._proof.reconcile(key)
        self._set_watching(self._enforced_since is not None)
        if previous != self._proof.problem:
            self._on_proof()
        return interval

    def _set_watching(self, should_watch: bool) -> None:
        if self._watch is not None and not should_watch:
            self._watch.cancel()
            self._watch = None
        elif self._watch is None and should_watch:
            sink = _NamespaceSink(self._on_change)
            reflector = Reflector(self._client, APPROVAL_TASKS, _namespace_of, sink, changes_only=True)
            self._watch = self._start(reflector.run())

    def _set_enforced_since(self, enforced_since: float | None) -> None:
        self._enforced_since = enforced_since

    def _on_change(self, namespace: str | None) -> None:
        """Enqueue the requests that wait for a change in the namespace, or all of them."""
        for request, pod_namespace in self._pod_namespaces.items():
            if namespace in (None, pod_namespace):
                self._enqueue(request)

    def await_change(self, request: AccessRequest) -> None:
        """Enqueue the request when an ApprovalTask in the namespace of its pod changes, until `forget` is called."""
        if request.pod is not None:
            self._pod_namespaces[request.key] = request.pod.key.namespace

    def forget(self, request: ObjectKey) -> None:
        self._pod_namespaces.pop(request, None)

    async def decide(self, request: AccessRequest, policies: Sequence[AccessPolicy]) -> str:
        """Create the AccessApprovals that ApprovalTasks give. Return the UID of the task, or an empty string.

        A rejected task of the PipelineRun wins. Otherwise, one task needs enough approvers of one policy.
        """
        tasks = await self._read_tasks(request) if self._enforced_since is not None else []
        for task in (each for each in tasks if each.state == "rejected"):
            names = [each for each in task.rejections if may_decide(each.by, request, policies[0])]
            answer = names[0] if names else TaskAnswer(f"ApprovalTask {task.key}")
            await self._create(request, policies[0], task, answer, "Denied")
            return task.uid
        for policy in policies:
            for task in (each for each in tasks if each.state == "approved"):
                answers = [each for each in task.approvals if await self._may_approve(request, policy, each)]
                if policy.approval is not None and len(answers) >= policy.approval.required:
                    for answer in answers[: policy.approval.required]:
                        await self._create(request, policy, task, answer, "Approved")
                    return task.uid
                self._record_mismatch(policy, task)
        return ""

    async def _may_approve(self, request: AccessRequest, policy: AccessPolicy, answer: TaskAnswer) -> bool:
        if not may_decide(answer.by, request, policy):
            return False
        if policy.task_check is not None and policy.task_check.approvers:
            return is_named(policy, answer)
        attributes = {"group": GROUP, "resource": ACCESS_POLICIES.plural, "namespace": policy.key.namespace}
        spec = {
            "user": answer.by,
            "groups": sorted(answer.groups),
            "resourceAttributes": {**attributes, "name": policy.key.name, "verb": "approve"},
        }
        resource = SUBJECT_ACCESS_REVIEWS
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}
        review = await self._client.create(resource.path(), body)
        return (review.get("status") or {}).get("allowed") is True

    def _record_mismatch(self, policy: AccessPolicy, task: ApprovalTask) -> None:
        """Tell the owner of the policy, because the author of the request may not learn of the policy."""
        note = (
            f"ApprovalTask {task.key} is approved, but not by enough approvers of this policy; change params.approvers"
        )
        regarding = Regarding(ACCESS_POLICIES.kind, policy.key, policy.uid)
        self._events.record(regarding, "Warning", "ApproversNotNamed", note)

    async def _read_tasks(self, request: AccessRequest) -> list[ApprovalTask]:
        """Return the ApprovalTasks of the PipelineRun that runs the request's pod."""
        try:
            return await self._follow_links(request)
        except ParseError as error:
            logger.info("AccessRequest %s: an object of its PipelineRun cannot be read: %s", request.key, error)
            return []

    async def _follow_links(self, request: AccessRequest) -> list[ApprovalTask]:
        if request.pod is None:
            return []
        namespace, name = request.pod.key
        raw_pod = await self._client.find(PODS.path(namespace, name))
        if raw_pod is None or pod_uid(request, raw_pod) != request.pod.uid:
            return []
        pod = parse_tekton_object(raw_pod)
        task_run = await self._read_owner(pod, TASK_RUNS, namespace)
        pipeline_run = await self._read_owner(task_run, PIPELINE_RUNS, namespace)
        if task_run is None or pipeline_run is None:
            return []
        tasks = []
        for run in find_approval_runs(pod, task_run, pipeline_run):
            task = await self._client.find(APPROVAL_TASKS.path(namespace, run))
            custom_run = await self._client.find(CUSTOM_RUNS.path(namespace, run))
            if task is not None and custom_run is not None:
                tasks.append(parse_approval_task(task, parse_tekton_object(custom_run), pipeline_run))
        since = self._enforced_since
        return [each for each in tasks if each is not None and since is not None and each.created_at >= since]

    async def _read_owner(self, child: TektonObject | None, resource: Resource, namespace: str) -> TektonObject | None:
        if child is None or child.owner is None:
            return None
        raw = await self._client.find(resource.path(namespace, child.owner.name))
        return parse_tekton_object(raw) if raw is not None else None

    async def _create(
        self, request: AccessRequest, policy: AccessPolicy, task: ApprovalTask, answer: TaskAnswer, decision: str
    ) -> None:
        """Create an AccessApproval. Its name depends on what it says, so a repetition creates nothing."""
        digest = hashlib.sha256(f"{request.uid} {policy.uid} {decision} {answer.by}".encode()).hexdigest()[:16]
        reference = {"name": request.key.name, "uid": request.uid}
        owner = {"apiVersion": API_VERSION, "kind": ACCESS_REQUESTS.kind, **reference}
        spec = {
            "requestRef": reference,
            "policyRef": {"name": policy.key.name, "uid": policy.uid},
            "by": answer.by,
            "decision": decision,
            "comment": printable(answer.message)[:MAX_COMMENT],
            "taskRef": {"namespace": task.key.namespace, "name": task.key.name, "uid": task.uid},
        }
        body = {
            "apiVersion": API_VERSION,
            "kind": ACCESS_APPROVALS.kind,
            "metadata": {"name": f"{request.key.name[:200]}-{digest}", "ownerReferences": [owner]},
            "spec": spec,
        }
        with suppress_status(HTTPStatus.CONFLICT):
            await self._client.create(ACCESS_APPROVALS.path(request.key.namespace), body)


def _namespace_of(raw: Mapping[str, Any]) -> str:
    return str((raw.get("metadata") or {}).get("namespace") or "")


class _NamespaceSink:
    """Sink of a watch that passes on the namespace of each change, and None when changes may be missing.

    It stores nothing. A watch of changes replaces all objects by none when it begins, and when it lost its position.
    """

    def __init__(self, on_change: Callable[[str | None], None]) -> None:
        self._on_change = on_change

    def replace(self, _: tuple[str, ...]) -> None:
        self._on_change(None)

    def put(self, obj: str) -> None:
        self._on_change(obj)

    def remove(self, obj: str) -> None:
        self._on_change(obj)
