from typing import Any

import pytest

from connector_store.domain.base.fields import Fields
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.permissions import (
    Allowed,
    PermissionEvaluator,
    RequestAttributes,
    build_evaluator,
    parse_permissions,
)
from connector_store.domain.permissions.rbac import PolicyRule
from connector_store.domain.permissions.role_suggestion import suggest_roles


def line(method: str, path: str, *, status: Any = 200, event: str = "request") -> dict[str, object]:
    info = parse_request(method, path, "")
    return {**info._asdict(), "event": event, "status": status, "path": path}


WEB = "/api/v1/namespaces/web"


def test_roles_cover_exactly_the_audited_requests() -> None:
    done = [("GET", f"{WEB}/pods"), ("GET", f"{WEB}/pods/a/log"), ("PUT", f"{WEB}/configmaps/a"),
            ("GET", "/api/v1/nodes"), ("GET", "/metrics?x"), ("GET", "/api")]  # fmt: skip
    found = suggest_roles([line(*each) for each in done], name="ci")
    roles = {each.name: each for each in found.roles}
    assert found.permissions == {"allow": [{"clusterRole": "ci-1"}, {"clusterRole": "ci-2", "namespaces": ["web"]}]}
    permissions = parse_permissions(Fields({"permissions": dict(found.permissions)}, "spec"))
    assert permissions is not None
    lending = build_evaluator(permissions, roles.get)
    assert isinstance(lending, PermissionEvaluator)
    for method, path in done:
        asked = RequestAttributes(info=parse_request(method, path, ""), may_create=method == "PUT")
        assert isinstance(lending.evaluate(asked), Allowed)
    for method, path in [("GET", "/api/v1/pods"), ("DELETE", f"{WEB}/pods/a"), ("GET", f"{WEB}/secrets")]:
        assert not isinstance(lending.evaluate(RequestAttributes(info=parse_request(method, path, ""))), Allowed)


def test_same_verbs_share_a_rule_and_namespaces_with_the_same_requests_share_a_role() -> None:
    lines = [line("GET", f"/api/v1/namespaces/{space}/{each}") for space in "ba" for each in ("pods", "services")]
    found = suggest_roles([*lines, line("GET", "/api/v1/namespaces/c/pods")], name="ci")
    assert found.permissions == {
        "allow": [
            {"clusterRole": "ci-1", "namespaces": ["a", "b"]},
            {"clusterRole": "ci-2", "namespaces": ["c"]},
        ]
    }
    assert found.roles[0].rules == (PolicyRule(verbs=("list",), api_groups=("",), resources=("pods", "services")),)


def test_rights_in_all_namespaces_are_not_repeated_for_one_namespace() -> None:
    found = suggest_roles([line("GET", "/api/v1/pods"), line("GET", f"{WEB}/pods")], name="ci")
    assert found.permissions == {"allow": [{"clusterRole": "ci"}]}


def test_exec_also_requires_create() -> None:
    (role,) = suggest_roles([line("GET", f"{WEB}/pods/a/exec", status=101)], name="ci").roles
    assert role.rules == (PolicyRule(verbs=("create", "get"), api_groups=("",), resources=("pods/exec",)),)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (line("GET", f"{WEB}/secrets", status=403), "refused with 403: list secrets in web"),
        (line("GET", "/metrics", status=401), "refused with 401: get /metrics"),
        (line("GET", f"{WEB}/pods/a/exec", status=None), "refused with None: get pods/exec in web"),
        (
            line("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
            "it may give any right, so it needs bind or escalate, which are yours to give: "
            "create clusterroles.rbac.authorization.k8s.io",
        ),
    ],
)
def test_omitted_requests_are_reported(seen: dict[str, object], told: str) -> None:
    found = suggest_roles([seen], name="ci")
    assert (found.roles, found.permissions, found.omissions) == ((), {}, (told,))
    assert suggest_roles([seen, seen], name="ci").omissions == (f"{told} (2 times)",)


@pytest.mark.parametrize(
    "seen",
    [{}, {"event": "lost", "lines": 3}, {"event": "request", "verb": 5}, line("GET", "/api/v1/pods", event="stream")],
)
def test_other_records_are_ignored(seen: dict[str, object]) -> None:
    assert suggest_roles([seen], name="ci").omissions == ()
