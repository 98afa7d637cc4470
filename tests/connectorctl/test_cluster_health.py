"""Judgement of an installation."""

from collections.abc import Callable
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.proxy_service import Service
from connectorctl import cluster_health as health
from connectorctl.cluster_health import CONTROLLER, DRIVER, PROXY, ProgramPod, Right
from connectorctl.diagnosis import CheckFailedError, CheckSkippedError

HOST = "connectors-proxy.connectors-system.svc.cluster.local"
PRODUCTION = ObjectKey("team-a", "prod")
DAY = 86400.0


def pod(program: str, name: str = "a", **values: Any) -> ProgramPod:
    fields: dict[str, Any] = {
        "key": ObjectKey("system", f"{program}-{name}"),
        "program": program,
        "version": "0.2.0",
        "account": program,
        "node": f"node-{name}",
        "is_ready": True,
        "node_selector": {},
    }
    return ProgramPod(**fields | values)


def node(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


def alias(**values: Any) -> Service:
    fields: dict[str, Any] = {
        "key": ObjectKey("team-a", "c-prod"),
        "is_managed": True,
        "owner_name": "prod",
        "owner_uid": "1",
        "external_name": HOST,
    }
    return Service(**fields | values)


ALL = [pod(PROXY), pod(CONTROLLER), pod(DRIVER)]
EIGHT = [pod(PROXY, str(number), is_ready=False) for number in range(8)]

OK: list[Any] = [
    pytest.param(lambda: health.judge_kubernetes({"major": "1", "minor": "37", "gitVersion": "v1.37.2"}),
                 "Kubernetes v1.37.2", id="a new API server"),
    pytest.param(lambda: health.judge_kubernetes({"major": "1", "minor": "34+", "gitVersion": "v1.34.4-gke"}),
                 "Kubernetes v1.34.4-gke, which needs the component k8s-1.34", id="one that needs a component"),
    pytest.param(lambda: health.judge_kubernetes({"major": "2", "gitVersion": "v2.0.0"}), "Kubernetes v2.0.0",
                 id="another major version"),
    pytest.param(lambda: health.judge_definitions(["a"], ["a", "b"]), "the API server knows all 1 kinds",
                 id="all definitions"),
    pytest.param(lambda: health.judge_programs([*ALL, pod(DRIVER, is_ready=False)]),
                 "pods: 1 of connectors-proxy, 1 of connectors-controller, 2 of connectors-csi",
                 id="a driver that is not ready is the concern of another check"),
    pytest.param(lambda: health.judge_versions(ALL, "0.2.0"),
                 "connectors-proxy 0.2.0, connectors-controller 0.2.0, connectors-csi 0.2.0, connectorctl 0.2.0",
                 id="one release"),
    pytest.param(lambda: health.judge_versions([pod(PROXY, version="0.1.9"), pod(PROXY, version="")], "0.2.0"),
                 "connectors-proxy unknown and 0.1.9, connectorctl 0.2.0", id="two releases, and an unknown one"),
    pytest.param(lambda: health.judge_versions([pod(PROXY, version="")], "unknown"),
                 "connectors-proxy unknown, connectorctl unknown", id="no version at all"),
    pytest.param(lambda: health.judge_expiry("it", [10 * DAY, 9 * DAY], 0.0, DAY, "do"), "it expires in 9 days",
                 id="an expiry that is far"),
    pytest.param(lambda: health.judge_settings({"p": {"connector_settings_rejected": [0.0]}}),
                 "all programs use the settings of the ConfigMap", id="settings in use"),
    pytest.param(lambda: health.judge_watches({"p": {"connector_watch_age_seconds": [0.0, 3.5]}}, 60),
                 "all data is younger than 4 s", id="fresh watches"),
    pytest.param(lambda: health.judge_clocks({"p": {"connector_clock_offset_seconds": [-29.0]}}),
                 "all clocks agree with the API server's, within 30 s", id="clocks that agree"),
    pytest.param(lambda: health.judge_rights([], 3), "the programs have all 3 rights that were checked",
                 id="all rights"),
    pytest.param(lambda: health.judge_nodes(
        [node("node-a"), node("w", **{"kubernetes.io/os": "windows"}), node("v", type="virtual-kubelet"),
         node("f", **{"eks.amazonaws.com/compute-type": "fargate"})], ALL),
        "the driver is ready on 1 of 1 nodes", id="nodes on which the driver cannot run"),
    pytest.param(lambda: health.judge_nodes([node("node-a", pool="x"), node("b")],
                                            [pod(DRIVER, node_selector={"pool": "x"})]),
                 "the driver is ready on 1 of 1 nodes", id="a node selector"),
    pytest.param(lambda: health.judge_services({PRODUCTION: "1", ObjectKey("team-a", "a.b"): "2"},
                                               [alias(), alias(key=ObjectKey("team-a", "c-other"))], HOST),
                 "no Service of another owner has the name of one of 2 Connectors", id="Services of the controller"),
]  # fmt: skip


@pytest.mark.parametrize(("judge", "detail"), OK)
def test_it_is_ok(judge: Callable[[], str], detail: str) -> None:
    assert judge() == detail


FAILED: list[Any] = [
    pytest.param(lambda: health.judge_kubernetes({"major": "1", "minor": "29", "gitVersion": "v1.29.0"}),
                 "Kubernetes v1.29.0 is older than 1.30", "upgrade Kubernetes",
                 id="an old API server"),
    pytest.param(lambda: health.judge_definitions(["b", "a"], []), "the API server does not know a, b",
                 "apply them: kubectl apply -k deploy/crds", id="missing definitions"),
    pytest.param(lambda: health.judge_programs([pod(PROXY)]), "connectors-controller has no pods",
                 "install the product as docs/install.md says", id="no controller"),
    pytest.param(lambda: health.judge_programs([*ALL, *EIGHT]),
                 "not ready: " + ", ".join(f"system/connectors-proxy-{number}" for number in range(5)) + " and 3 more",
                 "see why: kubectl describe pod -n system connectors-proxy-0, and its log",
                 id="pods that are not ready"),
    pytest.param(lambda: health.judge_versions(
        [pod(PROXY, version="0.1.0"), pod(CONTROLLER, version="0.3.1")], "0.2.0"),
                 "connectors-proxy 0.1.0, connectors-controller 0.3.1, connectorctl 0.2.0: more than one release apart",
                 "upgrade one release at a time", id="programs two releases apart"),
    pytest.param(lambda: health.judge_versions([pod(PROXY)], "1.2.0"),
                 "connectors-proxy 0.2.0, connectorctl 1.2.0: more than one release apart",
                 "upgrade one release at a time", id="another major version of connectorctl"),
    pytest.param(lambda: health.judge_expiry("it", [3600.0], 0.0, DAY, "do"), "it expires in 60 min", "do",
                 id="an expiry that is near"),
    pytest.param(lambda: health.judge_expiry("it", [0.0], 3 * DAY, DAY, "do"), "it expired 3 days ago", "do",
                 id="an expiry in the past"),
    pytest.param(lambda: health.judge_settings({"p": {"connector_settings_rejected": [1.0]}, "q": {}}),
                 "p cannot use a setting, and keeps the previous ones", "read the log, which names the key",
                 id="settings that a program refuses"),
    pytest.param(lambda: health.judge_watches({"p": {"connector_watch_age_seconds": [61.0, 1.0]}}, 60),
                 "the data of p is up to 61 s old", "read the pod's log, and see that it reaches the API server",
                 id="a stale watch"),
    pytest.param(lambda: health.judge_clocks({"p": {"connector_clock_offset_seconds": [-31.0]}}),
                 "the clock of p differs from the API server's by -31 s", "set the clock of the pod's node",
                 id="a clock that is behind"),
    pytest.param(lambda: health.judge_rights(
        [Right(program=PROXY, verb="patch", group="g", resource="r", subresource="s", namespace="n", name="x")], 3),
        'connectors-proxy may not patch r/s.g "x" in namespace n',
        "apply deploy/rbac, deploy/system and deploy/csi, or the chart, of the version that runs",
                 id="a missing right"),
    pytest.param(lambda: health.judge_rights([Right(program="p", verb="v", group="", resource="r")] * 7, 9),
                 "; ".join(["p may not v r"] * 5) + "; and 2 more",
                 "apply deploy/rbac, deploy/system and deploy/csi, or the chart, of the version that runs",
                 id="many missing rights"),
    pytest.param(lambda: health.judge_nodes([node("node-a"), node("b")], [*ALL, pod(DRIVER, "b", is_ready=False)]),
                 "no ready driver on b; pods with a volume cannot start there",
                 "see why: kubectl get pods -n system -o wide; kubectl describe daemonset -n system",
                 id="a node whose driver is not ready"),
    pytest.param(lambda: health.judge_services({PRODUCTION: "1"}, [alias(external_name="evil.example.com")], HOST),
                 "team-a/c-prod is not the controller's, and callers could send their tokens to it",
                 "find out who created it, and delete it; the controller then creates its own",
                 id="a Service that leads elsewhere"),
    pytest.param(lambda: health.judge_services({PRODUCTION: "2"}, [alias()], HOST),
                 "team-a/c-prod is not the controller's, and callers could send their tokens to it",
                 "find out who created it, and delete it; the controller then creates its own",
                 id="a Service of a Connector that was deleted"),
]  # fmt: skip


@pytest.mark.parametrize(("judge", "detail", "next_step"), FAILED)
def test_a_problem_has_a_next_step(judge: Callable[[], str], detail: str, next_step: str) -> None:
    with pytest.raises(CheckFailedError) as failure:
        judge()
    assert (failure.value.detail, failure.value.next_step) == (detail, next_step)


@pytest.mark.parametrize(
    "judge",
    [
        pytest.param(lambda: health.judge_expiry("it", [], 0.0, DAY, "do"), id="no expiry"),
        pytest.param(lambda: health.judge_settings({}), id="no metrics"),
        pytest.param(lambda: health.judge_watches({"p": {}}, 60), id="metrics of another release"),
        pytest.param(lambda: health.judge_clocks({}), id="no clock"),
        pytest.param(lambda: health.judge_nodes([node("a")], [pod(PROXY)]), id="no driver"),
        pytest.param(lambda: health.judge_versions([], "0.2.0"), id="no program"),
        pytest.param(lambda: health.judge_rights([], 0), id="no account"),
    ],
)
def test_what_is_unknown_is_skipped(judge: Callable[[], str]) -> None:
    with pytest.raises(CheckSkippedError):
        judge()


def test_a_pod_is_parsed() -> None:
    labels = {"app.kubernetes.io/name": PROXY, "app.kubernetes.io/version": "0.2.0"}
    raw = {
        "metadata": {"namespace": "system", "name": f"{PROXY}-a", "labels": labels},
        "spec": {"serviceAccountName": PROXY, "nodeName": "node-a"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert health.parse_pod(raw) == pod(PROXY)


def test_a_pod_without_fields_is_not_ready() -> None:
    parsed = health.parse_pod({"metadata": {"namespace": "n", "name": "p"}})
    assert parsed is not None
    assert (parsed.program, parsed.is_ready, parsed.node) == ("", False, "")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param({"metadata": {"namespace": "n", "name": "p", "deletionTimestamp": "now"}}, id="is being deleted"),
        pytest.param({"metadata": {"namespace": "n", "name": "p"}, "status": {"phase": "Failed"}}, id="has failed"),
    ],
)
def test_a_pod_is_left_out_that(raw: dict[str, Any]) -> None:
    assert health.parse_pod(raw) is None


def test_rights_are_for_all_namespaces_or_for_those_that_are_served() -> None:
    def secrets(namespaces: list[str] | None) -> set[str]:
        rights = health.rights_of("system", namespaces)
        return {each.namespace for each in rights if (each.program, each.resource) == (PROXY, "secrets")}

    assert secrets(None) == {"system", ""}
    assert secrets(["b", "a"]) == {"system", "a", "b"}
    assert secrets([]) == {"system"}
