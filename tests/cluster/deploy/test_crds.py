"""The CRDs and the admission policy on a real API server: what applies, and what is refused with which words."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.permissions.impersonation import DEFAULT_PREFIX
from lab.admin_api import AdminApi
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until

ROOT = Path(__file__).parents[3]
CORPUS = Path(__file__).parent / "corpus"


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Kubectl:
    kubectl = control_plane.kubectl
    kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/crds"))
    # Not that of Services, which other tests on this control plane make as if they were the controller.
    for kind in ("connectors", "secrets"):
        kubectl("apply", "--server-side", "-f", str(ROOT / f"deploy/policy/{kind}.yaml"))
    kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
    return kubectl


@pytest.fixture
def api(installed: Kubectl, control_plane: ControlPlane) -> AdminApi:
    return control_plane.api


def connector(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "Connector",
        "metadata": {"name": "c"},
        "spec": {"connectorClassName": "k8s", "address": "https://h:6443"} | spec,
    }


def create(api: AdminApi, namespace: str, manifest: dict[str, Any]) -> str:
    """Create in a dry run, and return `created`, or why the API server refuses it."""
    path = f"/apis/connectors.alauda.io/v1alpha1/namespaces/{namespace}/connectors?dryRun=All&fieldValidation=Strict"
    response = api.request("POST", path, manifest)
    return "created" if response.status == 201 else str(response.json()["message"])


def refusal(api: AdminApi, namespace: str, manifest: dict[str, Any]) -> str:
    """Return why a policy refuses an object; an empty text if the API server accepts it, or is too busy."""
    output = create(api, namespace, manifest)
    return output if "ValidatingAdmissionPolicy" in output else ""


def arrays(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every list of a schema, by where it is."""
    if isinstance(schema, dict):
        if schema.get("type") == "array":
            yield path, schema
        for name, each in schema.items():
            yield from arrays(each, f"{path}.{name}")


@pytest.mark.parametrize("file", ["connectors.yaml", "connectorclasses.yaml"])
def test_every_list_says_how_it_is_merged(file: str) -> None:
    (version,) = yaml.safe_load((ROOT / "deploy/crds" / file).read_text())["spec"]["versions"]
    lists = dict(arrays(version["schema"]["openAPIV3Schema"]))
    assert len(lists) > 3
    assert [path for path, each in lists.items() if "x-kubernetes-list-type" not in each] == []


@pytest.mark.parametrize("file", ["connectors.yaml", "connectorclasses.yaml"])
def test_manifests_of_the_other_product_apply_unchanged_under_strict_decoding(
    installed: Kubectl, namespace: str, file: str
) -> None:
    installed("apply", "--validate=strict", "-f", str(CORPUS / file), namespace=namespace)
    again = installed("apply", "--validate=strict", "-f", str(CORPUS / file), namespace=namespace)
    assert {line.rpartition(" ")[2] for line in again.splitlines()} <= {"unchanged", "configured"}


def test_unknown_fields_stay_on_a_class_and_are_refused_on_a_connector(
    installed: Kubectl, api: AdminApi, namespace: str
) -> None:
    installed("apply", "-f", str(CORPUS / "connectorclasses.yaml"))
    field_value = installed("get", "connectorclass", "as-documented", "-o", "jsonpath={.spec.something.of}")
    assert field_value == "later"
    assert 'unknown field "spec.typo"' in create(api, namespace, connector(typo=1))


@pytest.mark.parametrize(
    "address",
    ["https://h", "https://h:6443", "http://h/p", "https://10.0.0.1:6443", "https://[::1]:6443", "https://h/a/b"],
)
def test_an_address_is_accepted(api: AdminApi, namespace: str, address: str) -> None:
    assert "created" in create(api, namespace, connector(address=address))


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("h:6443", id="no scheme"),
        pytest.param("ftp://h", id="another scheme"),
        pytest.param("https://", id="no host"),
        pytest.param("https://:6443", id="a port without host"),
        pytest.param("https://u:p@h", id="a user"),
        pytest.param("https://h?x=1", id="a query"),
        pytest.param("https://h?", id="an empty query"),
        pytest.param("https://h#f", id="a fragment"),
        pytest.param("https://h /x", id="a space"),
        pytest.param("/only/a/path", id="a path"),
    ],
)
def test_an_address_is_refused_with_what_to_write(api: AdminApi, namespace: str, address: str) -> None:
    assert "spec.address: Invalid value" in (output := create(api, namespace, connector(address=address)))
    assert "https://HOST[:PORT][/PATH]" in output


def test_an_empty_class_name_is_refused(api: AdminApi, namespace: str) -> None:
    assert "spec.connectorClassName" in create(api, namespace, connector(connectorClassName=""))


def test_a_secret_of_another_namespace_is_refused_early(api: AdminApi, namespace: str) -> None:
    elsewhere = connector(auth={"name": "a", "secretRef": {"name": "s", "namespace": "elsewhere"}})
    # A new policy takes effect a moment after it was stored.
    output = wait_until(partial(refusal, api, namespace, elsewhere), "a policy in force")
    assert f"must be the Connector's own namespace, {namespace}" in output


def test_objects_older_than_the_policy_can_be_labelled_finalized_and_deleted(
    private_control_plane: ControlPlane,
) -> None:
    kubectl = private_control_plane.kubectl
    kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/crds"))
    kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
    private_control_plane.create_namespace("old")
    foreign = {"name": "a", "secretRef": {"name": "s", "namespace": "elsewhere"}}
    older = connector(auth=foreign)
    older["metadata"]["finalizers"] = ["example.test/wait"]
    private_control_plane.api.apply(older, namespace="old")
    kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/policy"))
    fresh = connector(auth=foreign) | {"metadata": {"name": "fresh"}}
    output = wait_until(partial(refusal, private_control_plane.api, "old", fresh), "a policy in force")
    assert "must be the Connector's own namespace" in output
    foreign_connector = connector(auth=foreign, connectorClassName="git") | {"metadata": {"name": "theirs"}}
    assert "created" in create(private_control_plane.api, "old", foreign_connector)
    kubectl("label", "connector", "c", "team=x", namespace="old")
    worse = '{"spec":{"auth":{"secretRef":{"namespace":"another"}}}}'
    refused = kubectl.run("patch", "connector", "c", "--type=merge", "--patch", worse, namespace="old")
    assert "must be the Connector's own namespace" in refused.stderr
    kubectl("delete", "connector", "c", "--wait=false", namespace="old")
    kubectl("patch", "connector", "c", "--type=merge", "--patch", '{"metadata":{"finalizers":null}}', namespace="old")
    assert kubectl("get", "connectors", "-o", "name", namespace="old") == ""


def test_connectors_can_be_selected_by_class_and_conditions_are_one_for_each_type(
    installed: Kubectl, namespace: str
) -> None:
    for name, cls in (("ours", "k8s"), ("theirs", "git")):
        installed.apply(connector(connectorClassName=cls) | {"metadata": {"name": name}}, namespace=namespace)
    selector = "--field-selector=spec.connectorClassName=k8s"
    assert installed("get", "connectors", selector, "-o", "name", namespace=namespace).split() == [
        "connector.connectors.alauda.io/ours"
    ]
    twice = {"status": {"conditions": [{"type": "Ready", "status": "True"}] * 2}}
    wrong = {"status": {"conditions": [{"type": "Ready", "status": "Maybe", "lastTransitionTime": "soon"}]}}
    for status, words in ((twice, ["Duplicate value"]), (wrong, ["Maybe", "date-time"])):
        patch = ("patch", "connector", "ours", "--subresource=status", "--type=merge", "--patch", json.dumps(status))
        refused = installed.run(*patch, namespace=namespace)
        assert refused.returncode != 0
        assert all(each in refused.stderr for each in words), refused.stderr
    explain = ("explain", "connector.status.conditions.reason")
    # The API server describes a new kind a moment after it serves it.
    wait_until(lambda: "Reason of the status, in one word" in installed.run(*explain).stdout, "the explanation")


@pytest.mark.parametrize("own", [None, ""], ids=["its own namespace", "an empty one"])
def test_a_secret_of_its_own_namespace_is_accepted(api: AdminApi, namespace: str, own: str | None) -> None:
    ref = {"name": "s", "namespace": namespace if own is None else own}
    assert "created" in create(api, namespace, connector(auth={"name": "a", "secretRef": ref}))


def test_short_names_the_category_and_the_columns_work(installed: Kubectl, namespace: str) -> None:
    installed("apply", "-f", str(CORPUS / "connectors.yaml"), namespace=namespace)
    table = installed("get", "conn", namespace=namespace)
    assert table.split()[:6] == ["NAME", "CLASS", "ADDRESS", "READY", "REASON", "AGE"]
    assert "connector.connectors.alauda.io/k8s-connector" in installed(
        "get", "alauda", "-o", "name", namespace=namespace
    )
    installed("get", "connclass")


def test_status_is_a_subresource_that_keeps_what_the_controller_writes(installed: Kubectl, namespace: str) -> None:
    installed.apply(connector(), namespace=namespace)
    status = (
        '{"status":{"observedGeneration":1,"proxy":{"httpAddress":{"url":"http://c","CACerts":"eA==","audience":"a"}},'
        '"conditions":[{"type":"Ready","status":"True","reason":"Ready","severity":"Info","message":"m",'
        '"lastTransitionTime":"2026-01-01T00:00:00Z"}]}}'
    )
    installed("patch", "connector", "c", "--subresource=status", "--type=merge", "-p", status, namespace=namespace)
    stored = installed.json("get", "connector", "c", namespace=namespace)
    assert stored["status"]["proxy"]["httpAddress"]["CACerts"] == "eA=="
    assert stored["status"]["conditions"][0]["severity"] == "Info"


MASK = [{"resources": ["secrets"]}]
VIEW = {"clusterRole": "view"}


@pytest.mark.parametrize(
    "spec",
    [
        {"permissions": {"allow": [VIEW]}},
        {"permissions": {"allow": [VIEW | {"namespaces": ["a", "b"]}], "deny": [{"clusterRole": "system:Some-role"}]}},
        {"permissions": {"deny": [VIEW]}, "address": "https://h/kubernetes/global"},
        {"permissions": {"dryRun": True, "customGroups": ["x.io"]}},
        {"permissions": {"mask": MASK, "allow": [{"clusterRole": "connectors-agent"}], "customGroups": ["x.io"]}},
        {"impersonate": {}},
        {"impersonate": {"userPrefix": "", "groupPrefix": "team:"}},
        {"limits": {"requestsPerSecond": 5, "burst": 5, "writesPerMinute": 0, "bulkDeletesPerHour": 1}},
        {"limits": {"deletesPerHour": 0, "sessions": 1_000_000}},
    ],
)
def test_limits_are_accepted(api: AdminApi, namespace: str, spec: dict[str, Any]) -> None:
    assert "created" in create(api, namespace, connector(**spec))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"limits": {}}, "should have at least 1 properties"),
        ({"limits": {"requestsPerSecond": 0}}, "should be greater than or equal to 1"),
        ({"limits": {"deletesPerHour": -1}}, "should be greater than or equal to 0"),
        ({"limits": {"burst": 5}}, "burst is smaller than requestsPerSecond"),
        ({"limits": {"burst": 5, "requestsPerSecond": 6}}, "burst is smaller than requestsPerSecond"),
        ({"limits": {"requests": 6}}, 'unknown field "spec.limits.requests"'),
        ({"permissions": {}}, "has neither allow nor deny"),
        ({"permissions": {"dryRun": False}}, "has neither allow nor deny"),
        ({"permissions": {"allow": []}}, "should have at least 1 items"),
        ({"permissions": {"mask": [{"resources": ["pods"]}]}}, 'supported values: "secrets"'),
        ({"permissions": {"mask": [{}]}}, "spec.permissions.mask[0].resources: Required value"),
        ({"permissions": {"allow": [{"clusterRole": "connectors-agent"}]}}, "mask is missing"),
        (
            {"permissions": {"deny": [VIEW], "customGroups": ["x.io"]}},
            "customGroups has no effect without mask or dryRun",
        ),
        ({"permissions": {"mask": MASK, "customGroups": ["X_"]}}, "spec.permissions.customGroups[0]"),
        ({"permissions": {"allow": [{}]}}, "spec.permissions.allow[0].clusterRole: Required value"),
        ({"permissions": {"deny": [{"clusterRole": "a/b"}]}}, "is not the name of a role"),
        ({"permissions": {"deny": [{"clusterRole": "a\x1b"}]}}, "spec.permissions.deny[0].clusterRole"),
        ({"connectorClassName": "a\x1b"}, "spec.connectorClassName"),
        ({"auth": {"name": "a\nb"}}, "spec.auth.name"),
        ({"auth": {"params": [{"name": "a\u202eb", "value": ""}]}}, "spec.auth.params[0].name"),
        ({"permissions": {"deny": [VIEW | {"namespaces": ["A"]}]}}, "spec.permissions.deny[0].namespaces[0]"),
        ({"permissions": {"deny": [VIEW] * 33}}, "must have at most 32 items"),
        ({"permissions": {"deny": [VIEW]}, "address": "https://h/api"}, "write the server's base URL"),
        ({"permissions": {"deny": [VIEW]}, "address": "https://h:1/apis/x"}, "write the server's base URL"),
        ({"impersonate": {"groupPrefix": "system:"}}, "does not begin with system:"),
        ({"impersonate": {"userPrefix": "a b"}}, "does not begin with system:"),
        ({"impersonate": {"prefix": "a"}}, 'unknown field "spec.impersonate.prefix"'),
    ],
)
def test_other_limits_are_refused(api: AdminApi, namespace: str, spec: dict[str, Any], says: str) -> None:
    assert says in create(api, namespace, connector(**spec))


def test_the_usual_prefixes_are_the_domains(installed: Kubectl, namespace: str) -> None:
    installed("apply", "-f", "-", namespace=namespace, stdin=json.dumps(connector(impersonate={})))
    created = json.loads(installed("get", "connector", "c", "-o", "json", namespace=namespace))
    assert created["spec"]["impersonate"] == {"userPrefix": DEFAULT_PREFIX, "groupPrefix": DEFAULT_PREFIX}


SECRET = {"auth": {"secretRef": {"name": "lent"}}}


def test_a_user_without_get_on_a_secret_cannot_name_it(
    installed: Kubectl, control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.create_service_account(namespace, "writer")
    user = f"system:serviceaccount:{namespace}:writer"
    rules = ["--verb=create,update,patch,get", "--resource=connectors.connectors.alauda.io"]
    installed("create", "role", "writer", *rules, namespace=namespace)
    installed(
        "create", "rolebinding", "writer", "--role=writer", f"--serviceaccount={namespace}:writer", namespace=namespace
    )
    wait_for_rbac(control_plane.api)

    def write(*arguments: str, spec: dict[str, Any]) -> str:
        result = installed.run(
            *arguments, "--as", user, "-f", "-", namespace=namespace, stdin=json.dumps(connector(**spec))
        )
        return result.stdout or result.stderr

    refused = f'spec.auth.secretRef.name: you may not get secrets "lent" in the namespace "{namespace}"'
    # A new policy takes effect a moment after it was stored.
    wait_until(lambda: refused in write("create", "--dry-run=server", spec=SECRET), "a policy in force")
    assert "you may not get" in write("create", "--dry-run=server", spec={"caCertSecretRef": {"name": "lent"}})
    assert "created" in write("create", spec={})
    assert refused in write("apply", "--server-side", spec=SECRET)
    # A user without the right cannot change the address of a Connector, which is where its credential is sent.
    installed("apply", "-f", "-", namespace=namespace, stdin=json.dumps(connector(**SECRET)))
    patch = ("patch", "connector", "c", "--type=merge", "--as", user, "-p")
    assert refused in installed.run(*patch, '{"spec":{"address":"https://mine"}}', namespace=namespace).stderr
    assert "patched" in installed(*patch, '{"metadata":{"labels":{"a":"b"}}}', namespace=namespace)
    installed(
        "create", "role", "reader", "--verb=get", "--resource=secrets", "--resource-name=lent", namespace=namespace
    )
    installed(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:writer", namespace=namespace
    )
    wait_for_rbac(control_plane.api)
    assert "patched" in installed(*patch, '{"spec":{"address":"https://mine"}}', namespace=namespace)
    other = {"auth": {"secretRef": {"name": "other"}}}
    assert "you may not get" in write("apply", "--server-side", "--force-conflicts", spec=other)
