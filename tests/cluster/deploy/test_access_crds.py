"""The CRDs of access policies, requests, approvals and locks on a real API server: what it accepts, and what it refuses
with which words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.deploy.test_crds import arrays

ROOT = Path(__file__).parents[3]
CORPUS = Path(__file__).parent / "corpus" / "access.yaml"
VERSION = "connectors.alauda.io/v1alpha1"
PLURALS = {
    "AccessPolicy": "accesspolicies",
    "AccessRequest": "accessrequests",
    "AccessApproval": "accessapprovals",
    "AccessLock": "accesslocks",
}
FILES = [f"{plural}.yaml" for plural in PLURALS.values()]
Spec = dict[str, Any]

GOOD: dict[str, Spec] = {
    "AccessPolicy": {"approval": {}},
    "AccessRequest": {
        "requester": "jane",
        "subject": {"kind": "User", "name": "jane"},
        "connectorRef": {"name": "prod"},
        "context": {"objectRef": {"kind": "Pod", "name": "p", "namespace": "team-a"}},
        "duration": "1h",
        "reason": "INC-7",
        "permissions": {"allow": [{"clusterRole": "edit"}]},
    },
    "AccessApproval": {
        "requestRef": {"name": "r", "uid": "0d0a4c2e-0000-4000-8000-000000000000"},
        "policyRef": {"name": "p", "uid": "0d0a4c2e-0000-4000-8000-000000000001"},
        "by": "joe",
        "decision": "Approved",
    },
    "AccessLock": {"reason": "stolen laptop"},
}


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> ControlPlane:
    control_plane.kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/crds"))
    control_plane.kubectl.wait_for_crds(*(f"{plural}.connectors.alauda.io" for plural in PLURALS.values()))
    return control_plane


def path(kind: str, namespace: str) -> str:
    return f"/apis/{VERSION}/namespaces/{namespace}/{PLURALS[kind]}"


def manifest(kind: str, spec: Spec, name: str = "a") -> dict[str, Any]:
    return {"apiVersion": VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def answer(plane: ControlPlane, namespace: str, kind: str, spec: Spec) -> str:
    """Create in a dry run, and return `created`, or why the API server refuses it."""
    response = plane.api.request(
        "POST", path(kind, namespace) + "?dryRun=All&fieldValidation=Strict", manifest(kind, spec)
    )
    return "created" if response.status == 201 else str(response.json()["message"])


@pytest.mark.parametrize("file", FILES)
def test_every_list_has_a_bound_and_says_how_it_is_merged(file: str) -> None:
    (version,) = yaml.safe_load((ROOT / "deploy/crds" / file).read_text())["spec"]["versions"]
    lists = dict(arrays(version["schema"]["openAPIV3Schema"]))
    assert [where for where, each in lists.items() if "x-kubernetes-list-type" not in each] == []
    assert [where for where, each in lists.items() if "maxItems" not in each] == []


@pytest.mark.parametrize("file", FILES)
def test_every_text_of_a_spec_has_a_bound(file: str) -> None:
    (version,) = yaml.safe_load((ROOT / "deploy/crds" / file).read_text())["spec"]["versions"]
    assert list(unbounded_texts(version["schema"]["openAPIV3Schema"]["properties"]["spec"])) == []


def unbounded_texts(schema: Any, where: str = "spec") -> list[str]:
    if not isinstance(schema, dict):
        return []
    found = [where] if schema.get("type") == "string" and not schema.keys() & {"maxLength", "enum", "format"} else []
    for name, each in schema.items():
        found += unbounded_texts(each, f"{where}.{name}")
    return found


def test_manifests_of_the_other_product_apply_unchanged_under_strict_decoding(
    installed: ControlPlane, namespace: str
) -> None:
    output = installed.kubectl("apply", "--validate=strict", "-f", str(CORPUS), namespace=namespace)
    assert output.count("created") == 5


def test_the_columns_and_the_explanation_are_there(installed: ControlPlane, namespace: str) -> None:
    kubectl: Kubectl = installed.kubectl
    kubectl("apply", "-f", str(CORPUS), namespace=namespace)
    installed.api.apply(manifest("AccessRequest", GOOD["AccessRequest"]), namespace=namespace)
    status = {"status": {"expirationTime": "2026-01-01T00:00:00Z", "conditions": [
        {"type": "Ready", "status": "True", "reason": "Approved"}]}}  # fmt: skip
    installed.api.call("PATCH", path("AccessRequest", namespace) + "/a/status", status)
    header, first, _ = kubectl("get", "accessrequests", namespace=namespace).splitlines()
    assert header.split() == ["NAME", "SUBJECT", "CONNECTOR", "FOR", "UNTIL", "STATE", "AGE"]
    assert first.split()[:6] == ["a", "jane", "prod", "1h", "2026-01-01T00:00:00Z", "Approved"]
    # The API server describes a new kind a moment after it serves it.
    wait_until(lambda: "subject" in kubectl.run("explain", "accessrequest.spec").stdout, "the explanation")
    columns = {
        "accesspolicies": ["NAME", "CONNECTORS", "MAX-DURATION", "REQUIRED", "READY", "REASON", "AGE"],
        "accesslocks": ["NAME", "SUBJECTS", "CONNECTORS", "UNTIL", "REASON", "AGE"],
        "accessapprovals": ["NAME", "REQUEST", "POLICY", "BY", "DECISION", "AGE"],
    }
    for kind in ("AccessLock", "AccessApproval"):
        installed.api.apply(manifest(kind, GOOD[kind]), namespace=namespace)
    for plural, names in columns.items():
        assert kubectl("get", plural, namespace=namespace).splitlines()[0].split() == names


ACCEPTED: list[tuple[str, Spec]] = [
    ("AccessPolicy", {}),
    ("AccessPolicy", {"connector": {"names": ["a"]}, "approval": {"required": 2, "maxDuration": "1h30m"}}),
    ("AccessPolicy", {"approval": None, "defaultPermission": {}}),
    ("AccessRequest", {}),
    ("AccessRequest", {"duration": "720h"}),
    ("AccessRequest", {"duration": None, "reason": None, "context": None, "permissions": None, "requester": None}),
    ("AccessRequest", {"subject": {"kind": "ServiceAccount", "name": "ci", "namespace": "team-a"}}),
    ("AccessRequest", {"subject": {"kind": "User", "name": "github:repo:a/b:ref:refs/heads/main"}}),
    ("AccessRequest", {"reason": "Störung 42 ✓"}),
    ("AccessApproval", {"decision": "Denied", "comment": "not on Friday"}),
    ("AccessLock", {"subjects": [{"kind": "Group", "name": "contractors"}], "until": "2026-01-01T00:00:00Z"}),
    ("AccessLock", {"connector": {"secretNames": ["token"], "addresses": ["h.example:6443", "[::1]:443"]}}),
]

REFUSED: list[tuple[str, Spec, str]] = [
    ("AccessPolicy", {"approval": None}, "it allows nothing"),
    ("AccessPolicy", {"approval": {"required": 0}}, "spec.approval.required"),
    ("AccessPolicy", {"approval": {"maxDuration": "10y"}}, "is not a duration"),
    ("AccessPolicy", {"connector": {"typo": 1}}, "unknown field"),
    ("AccessRequest", {"duration": "0s"}, "is not a duration"),
    ("AccessRequest", {"duration": "-1h"}, "is not a duration"),
    ("AccessRequest", {"duration": ""}, "is not a duration"),
    ("AccessRequest", {"duration": "soon"}, "is not a duration"),
    ("AccessRequest", {"duration": "87600h"}, "is not a duration"),
    ("AccessRequest", {"duration": "721h"}, "is not a duration"),
    ("AccessRequest", {"duration": "60"}, "is not a duration"),
    ("AccessRequest", {"subject": {"kind": "Group", "name": "g"}}, "Unsupported value"),
    ("AccessRequest", {"subject": {"kind": "ServiceAccount", "name": "ci"}}, "a ServiceAccount has a namespace"),
    ("AccessRequest", {"subject": {"kind": "User", "name": "a", "namespace": "b"}}, "and other kinds have none"),
    ("AccessRequest", {"subject": {"kind": "User", "name": "system:serviceaccount:a:b"}}, "as kind ServiceAccount"),
    ("AccessRequest", {"subject": {"kind": "ServiceAccount", "name": "a:b", "namespace": "c"}}, "a ServiceAccount has"),
    ("AccessRequest", {"subject": {"kind": "User", "name": "a\u202eb"}}, "spec.subject.name"),
    ("AccessRequest", {"requester": "a\nb"}, "spec.requester"),
    ("AccessRequest", {"reason": "a\x1b[31m"}, "spec.reason"),
    ("AccessRequest", {"reason": "a\u2066b"}, "spec.reason"),
    ("AccessRequest", {"reason": "x" * 1025}, "spec.reason"),
    ("AccessRequest", {"connectorRef": {"name": "a/b"}}, "spec.connectorRef.name"),
    ("AccessRequest", {"context": {"objectRef": {"kind": "Node", "name": "a", "namespace": "b"}}}, "Unsupported value"),
    ("AccessRequest", {"permissions": {"allow": []}}, "should have at least 1 items"),
    ("AccessRequest", {"permissions": {"allow": [{"clusterRole": "edit"}] * 9}}, "must have at most 8 items"),
    ("AccessApproval", {"decision": "Maybe"}, "Unsupported value"),
    ("AccessApproval", {"requestRef": {"name": "r"}}, "spec.requestRef.uid"),
    ("AccessApproval", {"policyRef": {"name": "r"}}, "spec.policyRef.uid"),
    ("AccessApproval", {"comment": "a\rb"}, "spec.comment"),
    ("AccessApproval", {"by": ""}, "spec.by"),
    ("AccessLock", {"reason": None}, "spec.reason"),
    ("AccessLock", {"until": "tomorrow"}, "spec.until"),
    ("AccessLock", {"subjects": []}, "should have at least 1 items"),
    ("AccessLock", {"connector": {"addresses": ["https://h"]}}, "spec.connector.addresses[0]"),
]


def changed(kind: str, changes: Spec) -> Spec:
    return {name: value for name, value in (GOOD[kind] | changes).items() if value is not None}


def test_what_the_api_server_accepts(installed: ControlPlane, namespace: str) -> None:
    answers = [answer(installed, namespace, kind, changed(kind, spec)) for kind, spec in ACCEPTED]
    assert answers == ["created"] * len(ACCEPTED)


def test_what_the_api_server_refuses_with_which_words(installed: ControlPlane, namespace: str) -> None:
    for kind, spec, words in REFUSED:
        assert words in answer(installed, namespace, kind, changed(kind, spec)), (kind, spec)


CHANGES: list[tuple[str, Spec]] = [
    ("AccessRequest", {"requester": "joe"}),
    ("AccessRequest", {"requester": None}),
    ("AccessRequest", {"subject": {"name": "joe"}}),
    ("AccessRequest", {"connectorRef": {"name": "other"}}),
    ("AccessRequest", {"context": None}),
    ("AccessRequest", {"context": {"objectRef": None}}),
    ("AccessRequest", {"context": {"objectRef": {"name": "q"}}}),
    ("AccessRequest", {"context": {"objectRef": {"namespace": "other"}}}),
    ("AccessRequest", {"duration": "2h"}),
    ("AccessRequest", {"duration": None}),
    ("AccessRequest", {"reason": "other"}),
    ("AccessRequest", {"permissions": {"allow": [{"clusterRole": "cluster-admin"}]}}),
    ("AccessRequest", {"permissions": None}),
    ("AccessApproval", {"by": "jane"}),
    ("AccessApproval", {"decision": "Denied"}),
    ("AccessApproval", {"requestRef": {"uid": "other"}}),
    ("AccessApproval", {"policyRef": {"uid": "other"}}),
    ("AccessApproval", {"comment": "later"}),
]


def test_requests_and_approvals_cannot_be_changed(installed: ControlPlane, namespace: str) -> None:
    for kind in ("AccessRequest", "AccessApproval"):
        installed.api.apply(manifest(kind, GOOD[kind]), namespace=namespace)
    for kind, spec in CHANGES:
        response = installed.api.request("PATCH", path(kind, namespace) + "/a", {"spec": spec})
        assert response.status == 422, (kind, spec, response.body)
        assert "cannot be changed" in response.json()["message"], (kind, spec)
    labelled = {"metadata": {"labels": {"a": "b"}}}
    for kind in ("AccessRequest", "AccessApproval"):
        installed.api.call("PATCH", path(kind, namespace) + "/a", labelled)


def test_the_uid_of_the_pod_can_be_set_once(installed: ControlPlane, namespace: str) -> None:
    installed.api.apply(manifest("AccessRequest", GOOD["AccessRequest"]), namespace=namespace)
    where = path("AccessRequest", namespace) + "/a"
    patch = {"spec": {"context": {"objectRef": {"uid": "u-1"}}}}
    assert installed.api.request("PATCH", where, patch).status == 200
    for uid in ("u-2", None):
        response = installed.api.request("PATCH", where, {"spec": {"context": {"objectRef": {"uid": uid}}}})
        assert "uid can be set once" in response.json()["message"]


def test_a_connector_offers_permissions_on_request_only_next_to_allow(installed: ControlPlane, namespace: str) -> None:
    entries = [{"clusterRole": "edit", "namespaces": ["web"]}]
    for permissions, words in (
        ({"allow": [{"clusterRole": "view"}], "onRequest": {"allow": entries}}, ""),
        ({"deny": [{"clusterRole": "view"}], "onRequest": {"allow": entries}}, "has onRequest without allow"),
        ({"allow": [{"clusterRole": "view"}], "onRequest": {}}, "spec.permissions.onRequest.allow"),
    ):
        spec = {"connectorClassName": "k8s", "address": "https://h:6443", "permissions": permissions}
        connectors = f"/apis/{VERSION}/namespaces/{namespace}/connectors?dryRun=All&fieldValidation=Strict"
        response = installed.api.request("POST", connectors, manifest("Connector", spec))
        assert words in response.json().get("message", "") if words else response.status == 201, response.body
