"""Checks of an installation: what they read, and what they do without a right."""

import asyncio
import copy
import time
from collections.abc import Mapping
from typing import Any, cast

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError, suppress_status
from connector_store.version import VERSION
from connectorctl import cluster_checks
from connectorctl.cluster_checks import CHECKS, ClusterSubject, parse_metrics
from connectorctl.cluster_health import CONTROLLER, DRIVER, PROXY
from connectorctl.diagnosis import Step, diagnose
from lab.certificates import make_ca

SYSTEM = "connectors-system"
CONFIG = f"/api/v1/namespaces/{SYSTEM}/configmaps/connectors-config"
CA = f"/api/v1/namespaces/{SYSTEM}/configmaps/connectors-proxy-ca"
DISCOVERY = "/apis/connectors.alauda.io/v1alpha1"
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
SELF_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
POLICIES = f"{ADMISSION}/validatingadmissionpolicies"
BINDINGS = f"{ADMISSION}/validatingadmissionpolicybindings"
PROOF = f"/api/v1/namespaces/{SYSTEM}/configmaps/connectors-admission"
ACCESS_KINDS = ("accesspolicies", "accessrequests", "accessapprovals", "accesslocks")
KINDS = ("connectors", "connectorclasses", *ACCESS_KINDS)
METRICS = f"""\
# TYPE connector_watch_age_seconds gauge
connector_watch_age_seconds{{resource="connectors"}} 1
connector_clock_offset_seconds 0.5
connector_settings_rejected 0
connector_served_certificate_expiry_timestamp_seconds {time.time() + 100 * 86400}
"""


def pod(program: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": program, "app.kubernetes.io/version": VERSION}
    return {
        "metadata": {"namespace": SYSTEM, "name": f"{program}-1", "labels": labels},
        "spec": {"serviceAccountName": program, "nodeName": "node-1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


class Cluster:
    """Answers by path. An exception is raised."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.2"},
            DISCOVERY: {"resources": [{"name": name} for name in KINDS]},
            "/api/v1/pods": {"items": [pod(PROXY), pod(CONTROLLER), pod(DRIVER)]},
            CONFIG: {"data": {}},
            CA: {"data": {"ca.crt": make_ca(days=365).pem.decode()}},
            "/api/v1/nodes": {"items": [{"metadata": {"name": "node-1"}}]},
            "/apis/connectors.alauda.io/v1alpha1/connectors": {
                "items": [{"metadata": {"namespace": "team-a", "name": "prod", "uid": "1"}}]
            },
            "/api/v1/services": {"items": []},
            POLICIES: {
                "items": [{"metadata": {"name": f"{each}.connectors.alauda.io"}, "spec": {}} for each in ACCESS_KINDS]
            },
            BINDINGS: {
                "items": [
                    {"spec": {"policyName": f"{each}.connectors.alauda.io", "validationActions": ["Deny"]}}
                    for each in ACCESS_KINDS
                ]
            },
            PROOF: {"data": {"enforced-since": "2026-01-31T18:00:00Z"}},
        }
        self.refused: set[tuple[str, str]] = set()
        """Resource and namespace that no program may use."""
        self.refused_to_user: set[tuple[str, str, str]] = set()
        """Verb, resource and namespace of the rights that the user does not have."""
        self.reviews: list[Mapping[str, Any]] = []
        self.selectors: dict[str, Mapping[str, str]] = {}

    async def get(self, path: str) -> Any:
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return copy.deepcopy(answer)

    async def find(self, path: str) -> Any:
        with suppress_status(404):
            return await self.get(path)
        return None

    async def list_objects(self, path: str, params: Mapping[str, str] | None = None) -> list[Any]:
        self.selectors[path] = params or {}
        items: list[Any] = (await self.get(path))["items"]
        return items

    async def create(self, path: str, body: Mapping[str, Any]) -> Any:
        attributes = body["spec"]["resourceAttributes"]
        if path == SELF_REVIEWS:
            right = (attributes["verb"], attributes["resource"], attributes["namespace"])
            return {"status": {"allowed": right not in self.refused_to_user}}
        assert path == REVIEWS
        self.reviews.append(body["spec"])
        refused = (attributes["resource"], attributes.get("namespace", "")) in self.refused
        return {"status": {"allowed": not refused}}


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The answer of each pod: status and body, or an exception."""
    answer: list[object] = [(200, METRICS.encode())]

    async def get_from_pod(_: KubeClient, pod: ObjectKey, port: int, path: str) -> object:
        assert (pod.namespace, port, path) == (SYSTEM, 9091, "/metrics")
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    monkeypatch.setattr(cluster_checks, "get_from_pod", get_from_pod)
    return answer


async def steps_of(cluster: Cluster) -> dict[str, Step]:
    subject = ClusterSubject(client=cast(KubeClient, cluster), shared_settings=Settings())
    return {step.check: step for step in await diagnose(CHECKS, subject)}


async def test_an_installation_that_works_is_ok(metrics: list[object]) -> None:
    cluster = Cluster()
    steps = await steps_of(cluster)
    assert {step.result for step in steps.values()} == {"ok"}, steps
    assert cluster.selectors["/api/v1/pods"] == {"labelSelector": "app.kubernetes.io/part-of=kubernetes-connector"}
    assert {each["user"] for each in cluster.reviews} == {
        f"system:serviceaccount:{SYSTEM}:{name}" for name in (PROXY, CONTROLLER, DRIVER)
    }
    assert all(f"system:serviceaccounts:{SYSTEM}" in each["groups"] for each in cluster.reviews)
    assert steps["metrics"].detail == "2 of 2 proxies and controllers answer by port-forward"


PROBLEMS: list[Any] = [
    pytest.param("/version", ApiError(0, "no connection"), "API server", "failed", id="no API server"),
    pytest.param(DISCOVERY, ApiError(404, "not found"), "definitions", "failed", id="no definitions"),
    pytest.param(DISCOVERY, ApiError(500, "broken"), "definitions", "failed", id="a discovery that fails"),
    pytest.param("/api/v1/pods", ApiError(403, "no"), "programs", "skipped", id="no right to list pods"),
    pytest.param("/api/v1/pods", TimeoutError(), "programs", "failed", id="an API server that does not answer"),
    pytest.param(CONFIG, {"data": {"probe-interval": "x"}}, "settings", "failed", id="a wrong setting"),
    pytest.param(CONFIG, {"data": {"proxy-service": ""}}, "Services", "skipped", id="a proxy without a Service"),
    pytest.param(CA, {"data": {"ca.crt": "x"}}, "CA", "failed", id="a ConfigMap without the CA"),
    pytest.param(CA, {"data": {"ca.crt": make_ca(days=1).pem.decode()}}, "CA", "failed", id="a CA that expires"),
    pytest.param(CA, {}, "CA", "failed", id="an empty ConfigMap"),
    pytest.param("/api/v1/nodes", {"items": [{"metadata": {"name": "node-2"}}]}, "nodes", "failed",
                 id="a node without a driver"),
    pytest.param("/api/v1/services", {"items": [{"metadata": {"namespace": "team-a", "name": "c-prod"}}]}, "Services",
                 "failed", id="a Service of another owner"),
    pytest.param(POLICIES, {"items": []}, "admission policies", "failed", id="no admission policies"),
    pytest.param(BINDINGS, ApiError(403, "no"), "admission policies", "skipped", id="no right to list bindings"),
    pytest.param(PROOF, ApiError(404, "not found"), "access requests", "failed", id="no proof of the controller"),
    pytest.param(PROOF, ApiError(403, "no"), "access requests", "skipped", id="no right to read the proof"),
    pytest.param(PROOF, {"data": {"reason": "x"}}, "access requests", "failed", id="a proof that failed"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "answer", "check", "result"), PROBLEMS)
async def test_a_problem_is_named(metrics: list[object], path: str, answer: Any, check: str, result: str) -> None:
    cluster = Cluster()
    cluster.answers[path] = answer
    assert (await steps_of(cluster))[check].result == result


@pytest.mark.parametrize(
    ("refused", "approve", "lock"),
    [
        pytest.param(None, "may", "may", id="an administrator"),
        pytest.param(("create", "accessapprovals", ""), "may not", "may", id="a user who cannot create approvals"),
        pytest.param(("approve", "accesspolicies", ""), "may not", "may", id="a user without the verb approve"),
        pytest.param(("create", "accesslocks", SYSTEM), "may", "may not", id="a user who cannot create locks"),
    ],
)
async def test_the_users_own_rights_are_named(
    metrics: list[object], refused: tuple[str, str, str] | None, approve: str, lock: str
) -> None:
    cluster = Cluster()
    cluster.refused_to_user = {refused} if refused is not None else set()
    step = (await steps_of(cluster))["your rights"]
    assert step.result == "ok"
    assert f"you {approve} approve access requests, and you {lock} lock callers out" in step.detail


async def test_the_ca_that_expires_last_counts(metrics: list[object]) -> None:
    cluster = Cluster()
    cluster.answers[CA]["data"]["ca.crt"] += make_ca(days=1).pem.decode()
    assert (await steps_of(cluster))["CA"].result == "ok"


async def test_an_unknown_key_of_the_settings_is_shown(metrics: list[object]) -> None:
    cluster = Cluster()
    cluster.answers[CONFIG] = {"data": {"drian": "30"}}
    assert (await steps_of(cluster))["settings"].detail.endswith("; unknown keys: drian")


@pytest.mark.parametrize(
    ("namespaces", "expected"),
    [
        pytest.param(None, {SYSTEM, ""}, id="all"),
        pytest.param("team-a", {SYSTEM, "team-a"}, id="listed ones"),
        pytest.param("RoleBinding", {SYSTEM}, id="those with a RoleBinding"),
    ],
)
async def test_rights_are_for_the_namespaces_that_are_served(
    metrics: list[object], namespaces: str | None, expected: set[str]
) -> None:
    cluster = Cluster()
    cluster.answers[CONFIG] = {"data": {} if namespaces is None else {"namespaces": namespaces}}
    await steps_of(cluster)
    asked = [each["resourceAttributes"] for each in cluster.reviews if each["user"].endswith(PROXY)]
    assert {each.get("namespace", "") for each in asked if each["resource"] == "secrets"} == expected


async def test_a_right_that_is_missing_is_named(metrics: list[object]) -> None:
    cluster = Cluster()
    cluster.refused = {("secrets", SYSTEM)}
    step = (await steps_of(cluster))["rights"]
    assert step.result == "failed"
    assert step.detail.startswith(f"connectors-proxy may not watch secrets in namespace {SYSTEM}; ")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((503, b""), id="another status"),
        pytest.param((200, b"{"), id="another document"),
        pytest.param(ApiError(403, "no"), id="no right"),
        pytest.param(TimeoutError(), id="no answer"),
    ],
)
async def test_checks_of_metrics_are_skipped_if_no_pod_answers(metrics: list[object], answer: object) -> None:
    metrics[0] = answer
    steps = await steps_of(Cluster())
    for name in ("metrics", "settings in use", "watches", "clocks", "certificates"):
        assert steps[name].result == "skipped"


async def test_a_check_has_a_time_limit(metrics: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_checks, "TIMEOUT", 0.0)

    class Hanging(Cluster):
        async def get(self, path: str) -> Any:
            await asyncio.Event().wait()

    assert (await steps_of(Hanging()))["API server"].detail == "no answer within 0 s"


def test_metrics_are_grouped_by_name() -> None:
    assert parse_metrics('a{x="1"} 1\na{x="2"} 2\nb 3\n') == {"a": [1.0, 2.0], "b": [3.0]}
