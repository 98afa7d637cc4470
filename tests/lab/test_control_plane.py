import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.control_plane import READY_TIMEOUT, ControlPlane
from lab.kubectl import Kubectl
from lab.process import complete_lines
from lab.waiting import wait_until


def test_stock_kubectl_works_with_the_api_server(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "configmap", "seen", namespace=namespace)
    assert "seen" in kubectl("get", "configmaps", namespace=namespace)
    assert (
        kubectl.json("version")["serverVersion"]["gitVersion"] == kubectl.json("version")["clientVersion"]["gitVersion"]
    )


def test_a_failed_command_has_the_message_of_the_server(kubectl: Kubectl) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        kubectl("get", "nothing-of-this-kind")
    assert "doesn't have a resource type" in caught.value.stderr


def test_an_issued_token_authenticates_until_it_expires(control_plane: ControlPlane, namespace: str) -> None:
    def whoami(lifetime: float) -> subprocess.CompletedProcess[str]:
        token = control_plane.issue_token(namespace, "default", lifetime=lifetime)
        config = control_plane.write_kubeconfig(f"{namespace}.kubeconfig", {"token": token})
        return Kubectl(control_plane.programs / "kubectl", config).run("auth", "whoami")

    assert f"system:serviceaccount:{namespace}:default" in whoami(600).stdout
    assert "Unauthorized" in whoami(-60).stderr


def test_a_token_for_another_audience_passes_a_review_and_not_the_api_server(
    control_plane: ControlPlane, namespace: str
) -> None:
    token = control_plane.issue_token(namespace, "default", audiences=["elsewhere"])
    review = {"spec": {"token": token, "audiences": ["elsewhere"]}}
    status = control_plane.api.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert status["authenticated"] is True
    assert status["audiences"] == ["elsewhere"]
    config = control_plane.write_kubeconfig(f"{namespace}.kubeconfig", {"token": token})
    assert "Unauthorized" in Kubectl(control_plane.programs / "kubectl", config).run("auth", "whoami").stderr


def test_rbac_refuses_a_request_without_a_role(control_plane: ControlPlane, namespace: str) -> None:
    token = control_plane.issue_token(namespace, "default")
    config = control_plane.write_kubeconfig(f"{namespace}.kubeconfig", {"token": token})
    answer = Kubectl(control_plane.programs / "kubectl", config).run("get", "secrets", namespace=namespace)
    assert "Forbidden" in answer.stderr


def test_apply_creates_and_changes_objects_and_rejects_unknown_fields(
    control_plane: ControlPlane, namespace: str
) -> None:
    api = control_plane.api
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"first": "1", "second": "2"},
    }
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": namespace}}
    api.apply(config_map, role, namespace=namespace)
    api.apply(config_map | {"data": {"first": "3"}}, namespace=namespace)
    assert api.call("GET", f"/api/v1/namespaces/{namespace}/configmaps/a")["data"] == {"first": "3"}
    api.call("GET", f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{namespace}")
    with pytest.raises(RuntimeError, match="field not declared in schema"):
        api.apply(config_map | {"date": {}}, namespace=namespace)


def test_every_request_is_in_the_audit_log(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.api.call("GET", f"/api/v1/namespaces/{namespace}/pods?limit=1")

    def own_events() -> list[dict[str, Any]]:
        events = [json.loads(line) for line in complete_lines(control_plane.audit_log)]
        return [event for event in events if event["requestURI"] == f"/api/v1/namespaces/{namespace}/pods?limit=1"]

    [event] = wait_until(own_events, "the event, which the API server may write after its response")
    assert (event["verb"], event["objectRef"]["resource"], event["user"]["username"]) == ("list", "pods", "admin")


def test_a_killed_api_server_restarts_on_its_port_with_its_data(disturbed_control_plane: ControlPlane) -> None:
    disturbed_control_plane.create_namespace("team-a")
    disturbed_control_plane.kill()
    assert not disturbed_control_plane.is_ready()
    disturbed_control_plane.restart_apiserver()
    disturbed_control_plane.api.call("GET", "/api/v1/namespaces/team-a")


def test_a_paused_api_server_does_not_respond_until_it_is_resumed(disturbed_control_plane: ControlPlane) -> None:
    disturbed_control_plane.pause()
    with pytest.raises(TimeoutError):
        disturbed_control_plane.api.request("GET", "/readyz", timeout=1)
    disturbed_control_plane.resume()
    disturbed_control_plane.apiserver.wait_until(disturbed_control_plane.is_ready, timeout=READY_TIMEOUT)


def test_a_watch_from_before_a_compaction_fails_with_410(disturbed_control_plane: ControlPlane) -> None:
    plane = disturbed_control_plane
    old = plane.api.call("GET", "/api/v1/namespaces")["metadata"]["resourceVersion"]
    plane.create_namespace("newer")
    plane.etcd.compact()
    plane.restart_apiserver()
    # The watch ends with its first event, so the body is one document.
    event = plane.api.call("GET", f"/api/v1/namespaces?watch=1&resourceVersion={old}&timeoutSeconds=30")
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_the_api_server_recovers_from_a_restart_of_etcd(disturbed_control_plane: ControlPlane) -> None:
    disturbed_control_plane.etcd.restart()
    disturbed_control_plane.apiserver.wait_until(disturbed_control_plane.is_ready, timeout=READY_TIMEOUT)
    api = disturbed_control_plane.api
    wait_until(lambda: api.request("GET", "/api/v1/namespaces/default").status == 200, "a read from etcd")
    # For the next test: the API server has a connection to etcd for each resource, each with its own back-off.
    disturbed_control_plane.restart_apiserver()


@pytest.fixture
def checks_that_the_plane_has_recovered(plane_to_disturb: ControlPlane) -> Iterator[None]:
    """Check the control plane after the fixtures that are named later have ended."""
    yield
    plane_to_disturb.api.call("GET", "/api/v1/namespaces/default")


@pytest.mark.usefixtures("checks_that_the_plane_has_recovered")
@pytest.mark.parametrize(
    "disturb",
    [
        pytest.param(ControlPlane.pause, id="paused"),
        pytest.param(ControlPlane.kill, id="killed"),
        pytest.param(lambda plane: plane.etcd.process.pause(), id="with a paused etcd"),
        pytest.param(ControlPlane.stop, id="stopped with its etcd"),
    ],
)
def test_a_disturbed_control_plane_recovers_for_the_next_test(
    disturb: Callable[[ControlPlane], None], disturbed_control_plane: ControlPlane
) -> None:
    """Leave the control plane as a failing test does."""
    disturb(disturbed_control_plane)


def test_a_closed_control_plane_leaves_no_process_and_no_data(
    cluster_programs: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("closed")
    with ControlPlane(folder) as plane:
        pids = (plane.apiserver.pid, plane.etcd.process.pid)
    assert not plane.is_ready()
    assert not (folder / "etcd").exists()
    wait_until(lambda: not any(_is_alive(pid) for pid in pids), "the end of the programs")


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
