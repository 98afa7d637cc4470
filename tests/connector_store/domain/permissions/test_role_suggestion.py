from typing import Any

import pytest

from connector_store.domain.base.fields import Fields
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.permissions.evaluator import Allowed, PermissionEvaluator, build_evaluator
from connector_store.domain.permissions.permissions import parse_permissions
from connector_store.domain.permissions.rbac import PolicyRule
from connector_store.domain.permissions.request_attributes import RequestAttributes
from connector_store.domain.permissions.role_suggestion import suggest_roles


def audit_record(method: str, path: str, *, status: Any = 200, event: str = "request") -> dict[str, object]:
    info = parse_request(method, path, "")
    return {**info._asdict(), "event": event, "status": status, "path": path}


WEB = "/api/v1/namespaces/web"


def test_roles_cover_exactly_the_audited_requests() -> None:
    requests = [("GET", f"{WEB}/pods"), ("GET", f"{WEB}/pods/a/log"), ("PUT", f"{WEB}/configmaps/a"),
            ("GET", "/api/v1/nodes"), ("GET", "/metrics?x"), ("GET", "/api")]  # fmt: skip
    suggestion = suggest_roles([audit_record(*each) for each in requests], name="ci")
    roles = {each.name: each for each in suggestion.roles}
    assert suggestion.permissions == {
        "allow": [{"clusterRole": "ci-1"}, {"clusterRole": "ci-2", "namespaces": ["web"]}]
    }
    permissions = parse_permissions(Fields({"permissions": dict(suggestion.permissions)}, "spec"))
    assert permissions is not None
    evaluator = build_evaluator(permissions, roles.get)
    assert isinstance(evaluator, PermissionEvaluator)
    for method, path in requests:
        attributes = RequestAttributes(info=parse_request(method, path, ""), may_create=method == "PUT")
        assert isinstance(evaluator.evaluate(attributes), Allowed)
    for method, path in [("GET", "/api/v1/pods"), ("DELETE", f"{WEB}/pods/a"), ("GET", f"{WEB}/secrets")]:
        assert not isinstance(evaluator.evaluate(RequestAttributes(info=parse_request(method, path, ""))), Allowed)


def test_same_verbs_share_a_rule_and_namespaces_with_the_same_requests_share_a_role() -> None:
    records = [
        audit_record("GET", f"/api/v1/namespaces/{space}/{each}") for space in "ba" for each in ("pods", "services")
    ]
    suggestion = suggest_roles([*records, audit_record("GET", "/api/v1/namespaces/c/pods")], name="ci")
    assert suggestion.permissions == {
        "allow": [
            {"clusterRole": "ci-1", "namespaces": ["a", "b"]},
            {"clusterRole": "ci-2", "namespaces": ["c"]},
        ]
    }
    assert suggestion.roles[0].rules == (PolicyRule(verbs=("list",), api_groups=("",), resources=("pods", "services")),)


def test_rights_in_all_namespaces_are_not_repeated_for_one_namespace() -> None:
    suggestion = suggest_roles([audit_record("GET", "/api/v1/pods"), audit_record("GET", f"{WEB}/pods")], name="ci")
    assert suggestion.permissions == {"allow": [{"clusterRole": "ci"}]}


def test_exec_also_requires_create() -> None:
    (role,) = suggest_roles([audit_record("GET", f"{WEB}/pods/a/exec", status=101)], name="ci").roles
    assert role.rules == (PolicyRule(verbs=("create", "get"), api_groups=("",), resources=("pods/exec",)),)


@pytest.mark.parametrize(
    ("path", "status", "verbs"),
    [
        ("/apis/x.io/v1/namespaces/web/machines/a/console", 101, ("create", "get")),
        ("/apis/x.io/v1/namespaces/web/machines/a/console", 200, ("get",)),
        (f"{WEB}/pods/a/log", 101, ("get",)),
        (f"{WEB}/pods?watch=1", 101, ("watch",)),
    ],
)
def test_an_upgrade_of_a_subresource_also_requires_create(path: str, status: int, verbs: tuple[str, ...]) -> None:
    (role,) = suggest_roles([audit_record("GET", path, status=status)], name="ci").roles
    assert [rule.verbs for rule in role.rules] == [verbs]


@pytest.mark.parametrize(
    ("record", "omission"),
    [
        (audit_record("GET", f"{WEB}/secrets", status=403), "refused with 403: list secrets in web"),
        (audit_record("GET", "/metrics", status=401), "refused with 401: get /metrics"),
        (audit_record("GET", f"{WEB}/pods/a/exec", status=None), "refused with None: get pods/exec in web"),
        (
            audit_record("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles"),
            "it may give any right, so it needs bind or escalate, which are yours to give: "
            "create clusterroles.rbac.authorization.k8s.io",
        ),
    ],
)
def test_omitted_requests_are_reported(record: dict[str, object], omission: str) -> None:
    suggestion = suggest_roles([record], name="ci")
    assert (suggestion.roles, suggestion.permissions, suggestion.omissions) == ((), {}, (omission,))
    assert suggest_roles([record, record], name="ci").omissions == (f"{omission} (2 times)",)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"event": "lost", "lines": 3},
        {"event": "request", "verb": 5},
        audit_record("GET", "/api/v1/pods", event="stream"),
    ],
)
def test_other_records_are_ignored(record: dict[str, object]) -> None:
    assert suggest_roles([record], name="ci").omissions == ()
