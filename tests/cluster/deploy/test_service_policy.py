"""The admission policy for Services on a real API server, with the controllers that collect garbage there."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lab.admin_api import Response
from lab.control_plane import ControlPlane
from lab.process import Process
from lab.programs import KUBERNETES, ensure_programs
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until

DEPLOY = Path(__file__).parents[3] / "deploy"
CONTROLLER = "system:serviceaccount:connectors-system:connectors-controller"
EDITOR = "eve"
RBAC = "rbac.authorization.k8s.io"
HOST = "connectors-proxy.connectors-system.svc.cluster.local"
LABEL = {"app.kubernetes.io/managed-by": "connectors-controller"}
PATIENCE = 400.0
"""Seconds for controllers that have just started, and that look for objects of all kinds."""
REFUSED_TO_OTHERS = "only their controller may write them"
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def plane(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("policy"), programs=cluster_programs) as plane:
        kubectl = plane.kubectl
        kubectl("apply", "--server-side", "-k", str(DEPLOY / "crds"))
        for file in ("system/namespace.yaml", "system/controller-rbac.yaml"):
            kubectl("apply", "-f", str(DEPLOY / file))
        kubectl.wait_for_crds("connectors.connectors.alauda.io")
        kubectl("apply", "-k", str(DEPLOY / "policy"))
        kubectl("create", "namespace", "try")

        def in_force() -> bool:
            path = "/api/v1/namespaces/try/services?dryRun=All"
            return REFUSED_TO_OTHERS in message_of(plane.api.request("POST", path, service("x", labels=LABEL)))

        wait_until(in_force, "a policy in force")
        yield plane


@pytest.fixture(scope="module", params=["with accounts of their own", "as the manager"])
def garbage_collected(request: pytest.FixtureRequest, plane: ControlPlane) -> Iterator[ControlPlane]:
    """With kube-controller-manager, in both ways that clusters run it."""
    for role in ("generic-garbage-collector", "namespace-controller"):
        # Who lets the manager use its own name binds these to it.
        binding = ["create", "clusterrolebinding", f"manager-{role}", f"--clusterrole=system:controller:{role}"]
        plane.kubectl.run(*binding, "--user=system:kube-controller-manager")
    manager = plane.ca.issue("kcm", common_name="system:kube-controller-manager")
    user = {
        "client-certificate": str(manager[0]),
        "client-key": str(manager[1]),
    }
    process = Process(
        [
            ensure_programs(KUBERNETES, ("kube-controller-manager",)) / "kube-controller-manager",
            f"--kubeconfig={plane.write_kubeconfig('kcm.kubeconfig', user)}",
            f"--service-account-private-key-file={plane.service_account_key}",
            f"--use-service-account-credentials={str(request.param == 'with accounts of their own').lower()}",
            "--controllers=garbage-collector-controller,namespace-controller",
            "--leader-elect=false",
            "--secure-port=0",
        ],
        log=plane.folder / "kube-controller-manager.log",
    )
    process.start()
    yield plane
    process.kill()


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    """Where `eve` is an editor, and a Connector `k8s` has its Service; it is not awaited to end."""
    name = plane.create_namespace(f"ns-{next(_NUMBERS)}")
    rule = {"apiGroups": [""], "resources": ["services", "services/status"], "verbs": ["*"]}
    subject = {"apiGroup": RBAC, "kind": "User", "name": EDITOR}
    plane.api.apply(
        {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "editor"}, "rules": [rule]},
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "editor"},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "editor"},
            "subjects": [subject],
        },
        namespace=name,
    )
    wait_for_rbac(plane.api)
    response = create(plane, alias(plane, name), name, CONTROLLER)
    assert response.status == 201, response.body
    return name


def service(name: str, *, labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    body = {"type": "ExternalName", "externalName": "evil.example"} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": labels or {}}, "spec": body}


def alias(plane: ControlPlane, namespace: str, name: str = "k8s") -> dict[str, Any]:
    """The Service as the controller makes it, of a Connector that is made here."""
    connector = {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "Connector",
        "metadata": {"name": name},
        "spec": {"connectorClassName": "k8s", "address": "https://target:6443"},
    }
    path = f"/apis/connectors.alauda.io/v1alpha1/namespaces/{namespace}/connectors"
    uid = plane.api.call("POST", path, connector)["metadata"]["uid"]
    owner = {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "Connector",
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    manifest = service(f"c-{name}", labels=LABEL, externalName=HOST)
    manifest["metadata"]["ownerReferences"] = [owner]
    return manifest


def create(plane: ControlPlane, body: dict[str, Any], namespace: str, user: str) -> Response:
    """Create a Service as that user."""
    return plane.api.request("POST", f"/api/v1/namespaces/{namespace}/services", body, user=user)


def message_of(response: Response) -> str:
    """Return why the API server refused a request; an empty text if it did not."""
    return str(response.json()["message"]) if response.status >= 400 else ""


def get_alias(plane: ControlPlane, namespace: str) -> dict[str, Any]:
    stored: dict[str, Any] = plane.api.call("GET", f"/api/v1/namespaces/{namespace}/services/c-k8s")
    return stored


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["patch", "service", "c-k8s", '--patch={"spec":{"externalName":"evil.example"}}'], id="redirect"),
        pytest.param(["label", "service", "c-k8s", "app.kubernetes.io/managed-by-"], id="take the label away"),
        pytest.param(
            ["patch", "service", "c-k8s", "--subresource=status", '--patch={"metadata":{"labels":null}}'],
            id="take the label away by way of the status",
        ),
        pytest.param(["patch", "service", "c-k8s", '--patch={"metadata":{"ownerReferences":null}}'], id="disown"),
        pytest.param(["delete", "service", "c-k8s"], id="delete"),
        pytest.param(["delete", "services", "--all"], id="delete all at once"),
        pytest.param(
            ["label", "service", "theirs", "app.kubernetes.io/managed-by=connectors-controller"],
            id="give a Service of their own the label",
        ),
    ],
)
def test_an_editor_cannot_change_services_with_the_controllers_label(
    plane: ControlPlane, namespace: str, command: list[str]
) -> None:
    response = create(plane, service("theirs"), namespace, EDITOR)
    assert response.status == 201, response.body
    before = get_alias(plane, namespace)
    done = plane.kubectl.run(*command, f"--as={EDITOR}", namespace=namespace)
    assert done.returncode != 0
    assert REFUSED_TO_OTHERS in done.stderr
    assert get_alias(plane, namespace) == before


def test_deletecollection_does_not_bypass_the_policy(plane: ControlPlane, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    answer = plane.api.request("DELETE", path)
    assert answer.status in (403, 422), answer.body
    assert get_alias(plane, namespace)["spec"]["externalName"] == HOST


@pytest.mark.parametrize("name", ["c-other", "c-k9s"])
def test_an_editor_cannot_create_a_service_with_the_controllers_label(
    plane: ControlPlane, namespace: str, name: str
) -> None:
    assert REFUSED_TO_OTHERS in message_of(create(plane, service(name, labels=LABEL), namespace, EDITOR))


def test_an_editor_can_change_services_without_the_label(plane: ControlPlane, namespace: str) -> None:
    for verb in ("create", "apply", "delete"):
        body = json.dumps(service("c-theirs", labels={"app": "x"}))
        done = plane.kubectl.run(verb, f"--as={EDITOR}", "-f", "-", namespace=namespace, stdin=body)
        assert done.returncode == 0, done.stderr


def test_the_controller_writes_its_own_services(plane: ControlPlane, namespace: str) -> None:
    patch = json.dumps({"spec": {"externalName": HOST, "ports": None}})
    for command in (["patch", "service", "c-k8s", f"--patch={patch}"], ["delete", "service", "c-k8s"]):
        done = plane.kubectl.run(*command, f"--as={CONTROLLER}", namespace=namespace)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["patch", "service", "dns", '--patch={"spec":{"selector":{"app":"evil"}}}'], id="change"),
        pytest.param(["delete", "service", "dns"], id="delete"),
        pytest.param(
            ["patch", "service", "dns", '--patch={"metadata":{"labels":{"app.kubernetes.io/managed-by":"x"}}}'],
            id="relabel",
        ),
        pytest.param(
            [
                "patch",
                "service",
                "dns",
                '--patch={"metadata":{"labels":{"app.kubernetes.io/managed-by":"connectors-controller"}}}',
            ],
            id="take over",
        ),
    ],
)
def test_the_controller_cannot_change_other_services(plane: ControlPlane, namespace: str, command: list[str]) -> None:
    dns = service("dns", type="ClusterIP", externalName=None, ports=[{"port": 53}], selector={"app": "dns"})
    plane.api.apply(dns, namespace=namespace)
    done = plane.kubectl.run(*command, f"--as={CONTROLLER}", namespace=namespace)
    assert done.returncode != 0
    assert "the Connectors' controller may write no Service without its own label" in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"metadata": {"labels": None}}, id="without the label"),
        pytest.param({"metadata": {"ownerReferences": None}}, id="without an owner"),
        pytest.param(
            {"spec": {"type": "ClusterIP", "externalName": None, "ports": [{"port": 80}]}}, id="with an address"
        ),
    ],
)
def test_the_controller_creates_only_aliases(plane: ControlPlane, namespace: str, change: dict[str, Any]) -> None:
    body = alias(plane, namespace, "second")
    for part, values in change.items():
        body[part] = body[part] | values
    refused = "may make Services of Connectors only"
    assert refused in message_of(create(plane, body, namespace, CONTROLLER))
    other = alias(plane, namespace, "third")
    other["metadata"]["name"] = "c-fourth"
    assert refused in message_of(create(plane, other, namespace, CONTROLLER))


def test_garbage_collection_and_deletion_of_a_namespace_still_work(
    garbage_collected: ControlPlane, namespace: str
) -> None:
    kubectl = garbage_collected.kubectl
    kubectl("delete", "connector", "k8s", namespace=namespace)
    service_path = f"/api/v1/namespaces/{namespace}/services/c-k8s"
    wait_until(
        lambda: garbage_collected.api.request("GET", service_path).status == 404,
        "the end of the Service with its Connector",
        timeout=PATIENCE,
    )
    response = create(garbage_collected, alias(garbage_collected, namespace, "last"), namespace, CONTROLLER)
    assert response.status == 201, response.body
    kubectl("delete", "namespace", namespace, "--wait=false")
    path = f"/api/v1/namespaces/{namespace}"
    wait_until(
        lambda: garbage_collected.api.request("GET", path).status == 404, "the end of the namespace", timeout=PATIENCE
    )
