from typing import Any

import pytest

from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions import self_review
from connector_store.domain.permissions.evaluator import Allowed, NotAllowed, PermissionEvaluator
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule
from connector_store.domain.permissions.restrictions import NO_RESTRICTIONS, Restrictions, Treatment
from connector_store.domain.permissions.self_review import check_right, describe_treatment, rewrite_self_review

AGENT = Restrictions(masks_secrets=True, dry_run=True)


def role(verbs: str, groups: str, resources: str, *names: str, namespaces: tuple[str, ...] | None = None) -> BoundRole:
    rule = PolicyRule(
        verbs=tuple(verbs.split()),
        api_groups=tuple("" if group == "core" else group for group in groups.split()),
        resources=tuple(resources.split()),
        resource_names=names,
    )
    return BoundRole(label="r", rules=(rule,), namespaces=None if namespaces is None else frozenset(namespaces))


READER = role("get list", "core", "pods")


def evaluator(
    allow: tuple[BoundRole, ...] | None, *deny: BoundRole, restrictions: Restrictions = NO_RESTRICTIONS
) -> PermissionEvaluator:
    return PermissionEvaluator(allow, deny, restrictions)


def ask(permissions: PermissionEvaluator, *, allowed: object = True, **question: object) -> dict[str, Any]:
    review = {"kind": "SelfSubjectAccessReview", "metadata": {}, "spec": question, "status": {"allowed": allowed}}
    answer = rewrite_self_review(review, permissions, "n/c")
    assert answer["spec"] == question
    status: dict[str, Any] = answer["status"]
    return status


def resource(verb: str, plural: str, **fields: str) -> dict[str, str]:
    return {"verb": verb, "resource": plural, **fields}


@pytest.mark.parametrize(
    ("permissions", "question", "allowed"),
    [
        pytest.param(evaluator((READER,)), resource("get", "pods", namespace="web", name="a"), True, id="allowed"),
        pytest.param(evaluator((READER,)), resource("delete", "pods"), False, id="not allowed"),
        pytest.param(evaluator((READER,)), resource("*", "pods"), False, id="some verbs of all"),
        pytest.param(evaluator(None), resource("*", "pods"), True, id="all verbs"),
        pytest.param(evaluator(None, role("watch", "core", "pods")), resource("*", "pods"), False, id="a denied verb"),
        pytest.param(evaluator(None, role("get", "core", "secrets")), resource("get", "*", group="*"), False,
                     id="a denied resource of all"),
        pytest.param(evaluator((role("update", "apps", "deployments"),)), 
                     resource("update", "deployments", group="apps"), False, id="an update also creates"),
        pytest.param(evaluator(None, restrictions=AGENT), resource("patch", "secrets"), False, id="a masked write"),
        pytest.param(evaluator(None, restrictions=AGENT), resource("create", "pods", subresource="exec"), False,
                     id="no dry run"),
    ],
)  # fmt: skip
def test_a_right_is_answered_as_the_intersection(
    permissions: PermissionEvaluator, question: dict[str, str], allowed: bool
) -> None:
    answer = ask(permissions, resourceAttributes=question)
    assert answer["allowed"] is allowed
    assert ("Connector" in answer.get("reason", "")) is not allowed
    assert ask(permissions, allowed=False, resourceAttributes=question)["allowed"] is False


DELETER = evaluator((role("delete", "core", "pods"),), role("delete", "core", "secrets"))
GETTER = evaluator((role("get", "core", "nodes"),))


@pytest.mark.parametrize(
    ("question", "wider", "allowed"),
    [
        pytest.param(resource("delete", "pods"), (), False, id="no access request"),
        pytest.param(resource("delete", "pods"), (DELETER,), True, id="an access request adds it"),
        pytest.param(resource("get", "nodes"), (DELETER, GETTER), True, id="the second of two access requests"),
        pytest.param(resource("get", "pods"), (DELETER,), True, id="the Connector allows it anyway"),
        pytest.param(resource("*", "pods"), (DELETER,), False, id="all verbs, which no access request adds"),
        pytest.param(resource("delete", "secrets"), (DELETER,), False, id="deny stays"),
    ],
)
def test_access_requests_of_the_caller_count(
    question: dict[str, str], wider: tuple[PermissionEvaluator, ...], allowed: bool
) -> None:
    review = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": question}, "status": {"allowed": True}}
    assert rewrite_self_review(review, evaluator((READER,)), "n/c", wider)["status"]["allowed"] is allowed
    refused = review | {"status": {"allowed": False}}
    assert rewrite_self_review(refused, evaluator((READER,)), "n/c", wider)["status"]["allowed"] is False


def test_rules_of_access_requests_are_added() -> None:
    status = {"resourceRules": [EVERYTHING], "nonResourceRules": [paths("*")]}
    review = {"kind": "SelfSubjectRulesReview", "spec": {"namespace": "web"}, "status": status}
    alone = rewrite_self_review(review, evaluator((READER,)), "n/c")["status"]
    wider = rewrite_self_review(review, evaluator((READER,)), "n/c", (DELETER, DELETER))["status"]
    assert [each for each in wider["resourceRules"] if each not in alone["resourceRules"]] == [
        rule("delete", "core", "pods")
    ]
    assert wider["nonResourceRules"] == alone["nonResourceRules"]


def test_the_reason_names_the_role_that_denies_and_the_limit() -> None:
    denied = ask(evaluator(None, role("get", "core", "pods")), resourceAttributes=resource("get", "pods"))
    assert denied["reason"] == 'Connector "n/c" does not allow it (ClusterRole r)'
    agent = evaluator(None, restrictions=AGENT)
    assert ask(agent, resourceAttributes=resource("get", "secrets"))["reason"] == 'masked, by Connector "n/c"'
    assert ask(agent, resourceAttributes=resource("delete", "pods"))["reason"] == 'dry run only, by Connector "n/c"'
    assert ask(agent, resourceAttributes=resource("patch", "secrets"))["reason"].endswith(
        "does not allow it: Secrets are masked, so only get, list and watch are allowed"
    )
    assert "reason" not in ask(agent, resourceAttributes=resource("get", "pods"))


def test_only_a_boolean_is_a_yes() -> None:
    answer = ask(evaluator(None), allowed="yes", resourceAttributes=resource("get", "pods"))
    assert answer["allowed"] is False


@pytest.mark.parametrize(("path", "allowed"), [("/version", True), ("/metrics", False), ("/api/../metrics", False)])
def test_a_path_is_answered(path: str, allowed: bool) -> None:
    question = {"nonResourceAttributes": {"verb": "get", "path": path}}
    assert ask(evaluator((READER,)), **question)["allowed"] is allowed


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"kind": "SelfSubjectAccessReview", "spec": {}, "status": {"allowed": True}},
        {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {"verb": 1}}, "status": {"allowed": True}},
        {"kind": "SelfSubjectAccessReview", "spec": {}},
        {"kind": "SubjectAccessReview", "spec": {}, "status": {}},
        {"kind": "SelfSubjectRulesReview", "spec": {}, "status": {"resourceRules": {}}},
        {"kind": "SelfSubjectRulesReview", "spec": {}, "status": {"resourceRules": [1]}},
    ],
)
def test_another_answer_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="self-review"):
        rewrite_self_review(value, evaluator((READER,)), "n/c")


def rule(verbs: str, groups: str, resources: str, *names: str) -> dict[str, list[str]]:
    rule = {
        "verbs": verbs.split(),
        "apiGroups": ["" if group == "core" else group for group in groups.split()],
        "resources": resources.split(),
    }
    return rule | ({"resourceNames": [*names]} if names else {})


def paths(*urls: str) -> dict[str, list[str]]:
    return {"verbs": ["get"], "nonResourceURLs": [*urls]}


EVERYTHING = rule("*", "*", "*")


def list_rules(
    permissions: PermissionEvaluator, *rules: dict[str, list[str]], namespace: str = "web"
) -> dict[str, Any]:
    resources = [each for each in rules if "resources" in each]
    urls = [each for each in rules if "nonResourceURLs" in each]
    status = {"resourceRules": resources, "nonResourceRules": urls, "incomplete": False}
    review = {"kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}, "status": status}
    answer: dict[str, Any] = rewrite_self_review(review, permissions, "n/c")["status"]
    return answer


def test_rules_are_those_that_both_have() -> None:
    answer = list_rules(evaluator((READER,)), EVERYTHING, rule("get delete", "core apps", "pods nodes"))
    assert rule("get list", "core", "pods") in answer["resourceRules"]
    assert rule("get", "core", "pods") in answer["resourceRules"]
    assert all("delete" not in each["verbs"] for each in answer["resourceRules"])
    assert answer["incomplete"] is False


def test_rules_of_other_namespaces_are_left_out() -> None:
    other = evaluator((role("get", "core", "pods", namespaces=("b",)),))
    assert rule("get", "core", "pods") not in list_rules(other, EVERYTHING)["resourceRules"]
    assert rule("get", "core", "pods") in list_rules(other, EVERYTHING, namespace="b")["resourceRules"]


def test_names_and_subresources_are_intersected() -> None:
    named = evaluator((role("get", "core", "configmaps", "a", "b"), role("create", "core", "*/exec")))
    answer = list_rules(
        named, rule("get", "core", "configmaps", "b", "c"), rule("create", "core", "pods/exec pods/log")
    )
    assert rule("get", "core", "configmaps", "b") in answer["resourceRules"]
    assert rule("create", "core", "pods/exec") in answer["resourceRules"]
    assert len(answer["resourceRules"]) == 2


def test_what_deny_covers_is_taken_from_rules() -> None:
    answer = list_rules(evaluator(None, role("delete", "core", "pods")), rule("*", "core", "pods nodes"))
    assert rule("get list watch create update patch deletecollection", "core", "pods") in answer["resourceRules"]
    assert rule("*", "core", "nodes") in answer["resourceRules"]
    assert answer["incomplete"] is True
    assert 'Connector "n/c"' in answer["evaluationError"]


def test_nothing_is_left_of_a_rule_that_deny_covers() -> None:
    assert list_rules(evaluator(None, role("*", "core", "pods")), rule("get", "core", "pods"))["resourceRules"] == []


def test_nothing_can_be_taken_from_a_wildcard() -> None:
    answer = list_rules(evaluator(None, role("*", "core", "pods")), EVERYTHING)
    assert (answer["resourceRules"], answer["incomplete"]) == ([EVERYTHING], True)


def test_masked_secrets_can_be_read_only() -> None:
    answer = list_rules(evaluator(None, restrictions=AGENT), rule("*", "core", "secrets"), paths("*", "/metrics"))
    assert answer["resourceRules"] == [rule("get list watch", "core", "secrets")]
    assert {url for each in answer["nonResourceRules"] for url in each["nonResourceURLs"]} >= {"/api", "/openapi/*"}
    assert "/metrics" not in str(answer)


def test_paths_are_intersected() -> None:
    answer = list_rules(evaluator((READER,)), paths("/version", "/api*", "/metrics", "/openapi/v3"))
    urls = {url for each in answer["nonResourceRules"] for url in each["nonResourceURLs"]}
    assert urls == {"/version", "/api", "/api/*", "/apis", "/apis/*", "/openapi/v3"}
    assert list_rules(evaluator(None), {"verbs": ["*"], "nonResourceURLs": ["/metrics"]})["nonResourceRules"] == [
        {"verbs": ["*"], "nonResourceURLs": ["/metrics"]}
    ]


def test_denied_paths_are_left_out() -> None:
    metrics = BoundRole(label="r", rules=(PolicyRule(verbs=("get",), non_resource_urls=("/metrics",)),))
    assert list_rules(evaluator(None, metrics), paths("/metrics"))["nonResourceRules"] == []
    assert list_rules(evaluator(None, metrics), paths("/metrics", "/x"))["nonResourceRules"] == [paths("/x")]


def test_the_number_of_rules_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_review, "MAX_RULES", 1)
    answer = list_rules(evaluator(None), rule("get", "core", "pods nodes"))
    assert (len(answer["resourceRules"]), answer["incomplete"]) == (1, True)


def test_a_right_with_its_treatment() -> None:
    info = RequestInfo("get", "", "secrets", "", "web", "", "")
    assert check_right(evaluator(None, restrictions=AGENT), info) == Allowed("", Treatment.MASK)
    assert isinstance(check_right(evaluator((READER,)), info), NotAllowed)
    assert describe_treatment(Treatment.UNCHANGED) == ""
