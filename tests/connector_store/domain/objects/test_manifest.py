import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.access_objects import (
    AccessApproval,
    AccessLock,
    AccessPolicy,
    AccessRequest,
    Namespace,
)
from connector_store.domain.objects.manifest import API_VERSION, parse_connector, parse_object
from connector_store.domain.objects.models import Address, Connector, ConnectorClass, InvalidConnector, Secret
from connector_store.domain.permissions.bindings import Binding, ClusterRoleRef, Role
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.permissions.rbac import ClusterRole, PolicyRule

GOOD: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": "Connector",
    "metadata": {"name": "k8s", "namespace": "team-a", "uid": "u", "generation": 2, "resourceVersion": "9"},
    "spec": {
        "connectorClassName": "k8s",
        "address": "https://192.168.1.100:6443/kubernetes/global",
        "addressExtensions": [{"name": "x", "value": {"any": 1}}],
        "auth": {
            "name": "bearerTokenAuth",
            "params": [
                {"name": "p", "value": 1},
                {"name": "q", "value": ["a", "b"]},
                {"name": "r", "value": {"any": 1}},
                {"name": "s", "value": True},
            ],
            "secretRef": {"name": "k8s-secret", "namespace": "team-a", "kind": "Secret", "apiVersion": "v1"},
        },
        "caCertSecretRef": {"name": "ca"},
        "permissions": {
            "allow": [{"clusterRole": "view", "namespaces": ["web"]}],
            "deny": [{"clusterRole": "connectors-credentials"}],
        },
        "impersonate": {"userPrefix": "u:", "groupPrefix": "g:"},
        "params": [{"name": "p", "value": "v"}],
    },
    "status": {"conditions": "anything"},
}


def changed(path: str, value: object) -> dict[str, Any]:
    raw = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    parent = raw
    for name in parents:
        parent = parent[name]
    parent[last] = value
    return raw


def test_a_connector_with_every_field() -> None:
    assert parse_connector(GOOD) == Connector(
        key=ObjectKey("team-a", "k8s"),
        class_name="k8s",
        address=Address(host="192.168.1.100", port=6443, prefix="/kubernetes/global"),
        auth_name="bearerTokenAuth",
        auth_params=(("p", "1"), ("q", "a,b"), ("r", ""), ("s", "")),
        secret_name="k8s-secret",
        ca_secret_name="ca",
        permissions=Permissions(
            allow=(RoleEntry(cluster_role="view", namespaces=frozenset({"web"})),),
            deny=(RoleEntry(cluster_role="connectors-credentials"),),
        ),
        impersonation=Impersonation(user_prefix="u:", group_prefix="g:"),
        uid="u",
        generation=2,
        resource_version="9",
    )


def test_a_connector_with_only_required_fields() -> None:
    raw = {"metadata": {"name": "k"}, "spec": {"connectorClassName": "k8s", "address": "https://h"}}
    assert parse_connector(raw, default_namespace="default") == Connector(
        key=ObjectKey("default", "k"), class_name="k8s", address=Address(host="h", port=443)
    )


@pytest.mark.parametrize(
    ("path", "value", "reason", "message"),
    [
        ("spec", [], "AddressInvalid", "spec: is not an object"),
        ("spec", None, "ConnectorClassNotFound", "spec.connectorClassName: is empty; set it to k8s"),
        ("spec.connectorClassName", "", "ConnectorClassNotFound", "spec.connectorClassName: is empty; set it to k8s"),
        ("spec.connectorClassName", 5, "ConnectorClassNotFound",
         "spec.connectorClassName: is not a string; put it in quotes"),
        ("spec.address", None, "AddressInvalid", "spec.address: is empty; write https://HOST[:PORT][/PATH]"),
        ("spec.address", "http://h", "AddressInvalid",
         "spec.address: is not an https URL; write https://HOST[:PORT][/PATH]"),
        ("spec.address", ["https://h"], "AddressInvalid", "spec.address: is not a string; put it in quotes"),
        ("spec.auth", "x", "SecretInvalid", "spec.auth: is not an object"),
        ("spec.auth.secretRef", "x", "SecretInvalid", "spec.auth.secretRef: is not an object"),
        ("spec.auth.secretRef.name", "A/b", "SecretInvalid", "spec.auth.secretRef.name: is not the name of a Secret"),
        ("spec.auth.secretRef.kind", "ConfigMap", "SecretInvalid", "spec.auth.secretRef.kind: is not Secret"),
        ("spec.auth.secretRef.namespace", "other", "SecretInvalid",
         "spec.auth.secretRef.namespace: is another namespace; a Connector uses Secrets of its own, team-a, only"),
        ("spec.permissions", {}, "PermissionsInvalid",
         "spec.permissions: has neither allow nor deny; name a ClusterRole in one of them, or leave it out"),
        ("spec.permissions.allow", [{"clusterRole": ""}], "PermissionsInvalid",
         "spec.permissions.allow[0].clusterRole: is not the name of a role: printable characters, no '/' and no '%'"),
        ("spec.address", "https://h/api", "PermissionsInvalid",
         "spec.permissions: cannot be kept below an address whose path begins with /api or /apis; "
         "write the server's base URL"),
        ("spec.address", "https://h/apis/apps", "PermissionsInvalid",
         "spec.permissions: cannot be kept below an address whose path begins with /api or /apis; "
         "write the server's base URL"),
        ("spec.impersonate", {"userPrefix": "system:"}, "PermissionsInvalid",
         "spec.impersonate.userPrefix: is not a prefix: at most 63 characters, no spaces, not beginning with system:"),
        ("spec.caCertSecretRef.name", "..", "SecretInvalid", "spec.caCertSecretRef.name: is not the name of a Secret"),
    ],
)  # fmt: skip
def test_an_invalid_connector_has_a_reason_and_a_message(path: str, value: object, reason: str, message: str) -> None:
    raw = changed(path, value)
    spec = raw["spec"] if isinstance(raw["spec"], dict) else {}
    class_name = spec.get("connectorClassName")
    assert parse_connector(raw) == InvalidConnector(
        key=ObjectKey("team-a", "k8s"),
        class_name=class_name if isinstance(class_name, str) else "",
        reason=reason,
        message=message,
        path=message.partition(": ")[0],
        uid="u",
        generation=2,
        resource_version="9",
    )


def test_objects_are_parsed_by_their_kind() -> None:
    metadata = {"metadata": {"name": "n"}}
    secret = parse_object(
        {"apiVersion": "v1", "kind": "Secret", **metadata}, system_namespace="s", default_namespace="default"
    )
    assert isinstance(secret, Secret)
    assert secret.key == ObjectKey("default", "n")
    cls = parse_object({"apiVersion": API_VERSION, "kind": "ConnectorClass", **metadata}, system_namespace="s")
    assert isinstance(cls, ConnectorClass)
    assert isinstance(parse_object(GOOD, system_namespace="s"), Connector)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "rules": [{"verbs": ["get"]}],
        **metadata,
    }
    assert parse_object(role, system_namespace="s") == ClusterRole(name="n", rules=(PolicyRule(verbs=("get",)),))


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(None, id="nothing"),
        pytest.param({}, id="an empty object"),
        pytest.param([], id="a list"),
        pytest.param("text", id="a text"),
        pytest.param({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}}, id="another kind"),
        pytest.param({**GOOD, "apiVersion": "connectors.alauda.io/v2"}, id="another version"),
        pytest.param({**GOOD, "apiVersion": 1}, id="a number for a version"),
        pytest.param({**GOOD, "metadata": {"name": "n"}}, id="no namespace"),
    ],
)
def test_objects_without_an_identity_are_refused(raw: object) -> None:
    with pytest.raises(ParseError):
        parse_object(raw, system_namespace="s")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from(
    ["spec", "spec.address", "spec.auth", "spec.auth.secretRef", "spec.auth.secretRef.name", "spec.auth.name",
     "spec.connectorClassName", "spec.caCertSecretRef", "spec.permissions", "spec.permissions.allow",
     "spec.impersonate", "status"]
)  # fmt: skip


@given(PATHS, JSON)
def test_for_every_value_in_a_spec_the_connector_is_parsed_or_invalid(path: str, value: object) -> None:
    assert parse_connector(changed(path, value)).key == ObjectKey("team-a", "k8s")


@given(JSON)
def test_for_every_object_only_parse_errors_are_raised(raw: object) -> None:
    try:
        parse_object(raw, system_namespace="s")
    except ParseError:
        return


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param("Role", Role(key=ObjectKey("default", "r"), rules=()), id="a Role"),
        pytest.param(
            "RoleBinding",
            Binding(key=ObjectKey("default", "r"), role=ClusterRoleRef("user"), subjects=()),
            id="a RoleBinding",
        ),
        pytest.param(
            "ClusterRoleBinding",
            Binding(key=ObjectKey("", "r"), role=ClusterRoleRef("user"), subjects=()),
            id="a ClusterRoleBinding",
        ),
    ],
)
def test_rbac_objects_are_parsed(kind: str, expected: object) -> None:
    raw = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "r"}}
    role_ref = {"roleRef": {"kind": "ClusterRole", "name": "user"}} if kind.endswith("Binding") else {}
    assert parse_object({**raw, **role_ref}, system_namespace="sys", default_namespace="default") == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("AccessPolicy", AccessPolicy),
        ("AccessRequest", AccessRequest),
        ("AccessApproval", AccessApproval),
        ("AccessLock", AccessLock),
    ],
)
def test_access_objects_are_parsed_by_their_kind(kind: str, expected: type) -> None:
    raw = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": {}}
    parsed = parse_object(raw, system_namespace="sys", default_namespace="team-a")
    assert isinstance(parsed, expected)
    with pytest.raises(ParseError, match="is not read here"):
        parse_object(raw | {"apiVersion": "v1"}, system_namespace="sys", default_namespace="team-a")


def test_a_namespace_is_parsed_for_its_labels() -> None:
    raw = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ci", "labels": {"a": "b"}}}
    assert parse_object(raw, system_namespace="sys") == Namespace(name="ci", labels={"a": "b"})
