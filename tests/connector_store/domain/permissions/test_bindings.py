"""Roles and bindings of a folder have the same meaning as in a cluster."""

from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.config.settings import AccessRule
from connector_store.domain.permissions.bindings import (
    MAX_SUBJECTS,
    Binding,
    Bindings,
    ClusterRoleRef,
    RoleRef,
    Subject,
    parse_cluster_role_binding,
    parse_role,
    parse_role_binding,
)
from connector_store.domain.permissions.rbac import parse_cluster_role

USE = AccessRule("use", "connectors", "proxy")
KEY = ObjectKey("team-a", "k8s")
ME = Identity(user="ci:me", groups=("ci:deployers",))
RULES = [{"apiGroups": ["connectors.alauda.io"], "resources": ["connectors/proxy"], "verbs": ["use"]}]


def role(name: str = "user", *, rules: Any = RULES, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "rules": rules}


def binding(
    *subjects: dict[str, Any], kind: str = "ClusterRole", name: str = "user", **metadata: Any
) -> dict[str, Any]:
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}
    return {"metadata": {"name": "b", **metadata}, "roleRef": ref, "subjects": list(subjects)}


def user(name: str = "ci:me") -> dict[str, Any]:
    return {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}


def make_bindings(**objects: Any) -> Bindings:
    return Bindings(
        cluster_roles=[parse_cluster_role(each) for each in objects.get("cluster_roles", [role()])],
        roles=[parse_role(each, default_namespace="team-a") for each in objects.get("roles", [])],
        bindings=[
            *(parse_role_binding(each, default_namespace="team-a") for each in objects.get("bindings", [])),
            *(parse_cluster_role_binding(each) for each in objects.get("cluster_bindings", [])),
        ],
    )


def allowed(caller: Identity = ME, key: ObjectKey = KEY, rule: AccessRule = USE, **objects: Any) -> bool:
    return make_bindings(**objects).allows(caller, rule, key)


@pytest.mark.parametrize(
    ("subject", "caller", "expected"),
    [
        pytest.param(user(), ME, True, id="a user"),
        pytest.param(user("ci:other"), ME, False, id="another user"),
        pytest.param({"kind": "Group", "name": "ci:deployers"}, ME, True, id="a group"),
        pytest.param({"kind": "Group", "name": "deployers"}, ME, False, id="a group without its prefix"),
        pytest.param({"kind": "Group", "name": "system:authenticated"}, ME, True, id="everybody who was verified"),
        pytest.param(
            {"kind": "ServiceAccount", "name": "a", "namespace": "n"},
            Identity(user="system:serviceaccount:n:a"),
            True,
            id="a ServiceAccount",
        ),
        pytest.param({"kind": "ServiceAccount", "name": "me", "namespace": "ci"}, ME, False, id="no ServiceAccount"),
    ],
)
def test_subjects_of_a_binding(subject: dict[str, Any], caller: Identity, expected: bool) -> None:
    assert allowed(caller, bindings=[binding(subject)]) is expected
    assert allowed(caller, cluster_bindings=[binding(subject)]) is expected


def test_a_role_binding_applies_in_its_namespace_and_a_cluster_role_binding_everywhere() -> None:
    other = ObjectKey("team-b", "k8s")
    assert not allowed(key=other, bindings=[binding(user())])
    assert allowed(key=other, bindings=[binding(user(), namespace="team-b")])
    assert allowed(key=other, cluster_bindings=[binding(user())])


def test_a_role_applies_to_bindings_of_its_namespace() -> None:
    roles = [role("r")]
    assert allowed(roles=roles, bindings=[binding(user(), kind="Role", name="r")])
    in_b = [binding(user(), kind="Role", name="r", namespace="team-b")]
    assert not allowed(key=ObjectKey("team-b", "k8s"), roles=roles, bindings=in_b)


def test_names_and_verbs_of_a_role_are_checked() -> None:
    one = [role(rules=[RULES[0] | {"resourceNames": ["k8s"]}])]
    assert allowed(cluster_roles=one, bindings=[binding(user())])
    assert not allowed(key=ObjectKey("team-a", "other"), cluster_roles=one, bindings=[binding(user())])
    assert not allowed(rule=AccessRule("get", "connectors"), bindings=[binding(user())])
    every = [role(rules=[{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])]
    assert allowed(rule=AccessRule("get", "connectors"), cluster_roles=every, bindings=[binding(user())])


@pytest.mark.parametrize("kind", ["Role", "ClusterRole"])
def test_a_binding_to_a_missing_role_has_no_effect(kind: str) -> None:
    assert not allowed(bindings=[binding(user(), kind=kind, name="absent")])


def test_without_bindings_no_caller_is_allowed() -> None:
    assert not allowed()


def test_a_folder_without_bindings_is_empty() -> None:
    bound = parse_role_binding(binding(user()), default_namespace="team-a")
    assert Bindings(cluster_roles=[parse_cluster_role(role())]).is_empty
    assert not Bindings(bindings=[bound]).is_empty


def test_the_subjects_of_the_bindings_that_grant_the_right_are_listed_once() -> None:
    account = {"kind": "ServiceAccount", "name": "build", "namespace": "ci"}
    bindings = make_bindings(
        roles=[role("reader", rules=[{**RULES[0], "verbs": ["get"]}])],
        bindings=[
            binding(user(), account),
            binding(user("ci:reader"), kind="Role", name="reader"),
            binding(user("ci:elsewhere"), namespace="team-b"),
        ],
        cluster_bindings=[binding({"kind": "Group", "name": "admins"}, user())],
    )
    subjects = bindings.subjects(USE, KEY)
    assert [str(each) for each in subjects] == ["User ci:me", "ServiceAccount ci/build", "Group admins"]


def test_objects_are_parsed() -> None:
    role_binding = parse_role_binding(binding(user(), kind="Role", namespace="n"), default_namespace="default")
    assert role_binding == Binding(
        key=ObjectKey("n", "b"), role=RoleRef("user"), subjects=(Subject(kind="User", name="ci:me"),)
    )
    assert parse_cluster_role_binding(binding()).role == ClusterRoleRef("user")
    cluster_role_binding = parse_cluster_role_binding(binding() | {"subjects": [user()] * MAX_SUBJECTS})
    assert len(cluster_role_binding.subjects) == MAX_SUBJECTS
    assert parse_role(role(), default_namespace="default").key == ObjectKey("default", "user")


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        pytest.param({"metadata": {}}, "metadata.name", "not the name of a role", id="no name"),
        pytest.param({"metadata": {"name": "b", "namespace": "A_"}}, "metadata.namespace", "is not", id="a namespace"),
        pytest.param({"roleRef": {"kind": "ClusterRole"}}, "roleRef.name", "not the name", id="no role"),
        pytest.param({"roleRef": {"kind": "X", "name": "r"}}, "roleRef.kind", "neither Role nor", id="another kind"),
        pytest.param(
            {"roleRef": {"kind": "Role", "name": "r", "apiGroup": "apps"}}, "roleRef.apiGroup", "is not", id="a group"
        ),
        pytest.param({"subjects": [{"kind": "User"}]}, "subjects[0].name", "is empty", id="a nameless subject"),
        pytest.param(
            {"subjects": [{"kind": "Pod", "name": "p"}]}, "subjects[0].kind", "none of", id="another kind of subject"
        ),
        pytest.param(
            {"subjects": [{"kind": "User", "name": "u", "apiGroup": "apps"}]},
            "subjects[0].apiGroup",
            "is not",
            id="a subject of another group",
        ),
        pytest.param(
            {"subjects": [{"kind": "ServiceAccount", "name": "a"}]},
            "subjects[0].namespace",
            "is empty",
            id="a ServiceAccount of no namespace",
        ),
        pytest.param({"subjects": [{}] * (MAX_SUBJECTS + 1)}, "subjects", "more than", id="too many subjects"),
    ],
)
def test_an_invalid_field_is_named(changes: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_role_binding(binding() | changes, default_namespace="default")
    assert error.value.path == field
    assert reason in error.value.reason


def test_a_cluster_role_binding_refers_to_a_cluster_role() -> None:
    with pytest.raises(ParseError, match="is not ClusterRole"):
        parse_cluster_role_binding(binding(kind="Role"))
