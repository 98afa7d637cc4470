from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions.rbac import (
    MAX_RULES,
    BoundRole,
    ClusterRole,
    PolicyRule,
    RuleSet,
    parse_cluster_role,
)


def rule(**fields: Any) -> PolicyRule:
    return PolicyRule(**{"verbs": ("get",), **fields})


def of_resource(
    resource: str, sub: str = "", *, verb: str = "get", group: str = "", namespace: str = "web", name: str = ""
) -> RequestInfo:
    return RequestInfo(verb, group, resource, sub, namespace, name, "/api/v1/…")


def of_path(path: str, verb: str = "get") -> RequestInfo:
    return RequestInfo(verb, "", "", "", "", "", path)


def allows(policy_rule: PolicyRule, info: RequestInfo, namespaces: frozenset[str] | None = None) -> bool:
    return RuleSet([BoundRole(label="role", rules=(policy_rule,), namespaces=namespaces)]).find_role(info) == "role"


PODS = rule(api_groups=("",), resources=("pods",))


@pytest.mark.parametrize(
    ("policy_rule", "info", "allowed"),
    [
        pytest.param(PODS, of_resource("pods"), True, id="what it names"),
        pytest.param(PODS, of_resource("pods", verb="list"), False, id="another verb"),
        pytest.param(PODS, of_resource("pods", verb=""), False, id="no verb"),
        pytest.param(rule(verbs=("*",), api_groups=("",), resources=("pods",)), of_resource("pods", verb=""), True,
                     id="no verb, for every verb"),
        pytest.param(PODS, of_resource("pods", group="x"), False, id="another group"),
        pytest.param(rule(api_groups=("*",), resources=("pods",)), of_resource("pods", group="x"), True,
                     id="every group"),
        pytest.param(rule(resources=("pods",)), of_resource("pods"), False, id="no group is not the core group"),
        pytest.param(PODS, of_resource("pods", "log"), False, id="a subresource is another resource"),
        pytest.param(rule(api_groups=("",), resources=("pods/log",)), of_resource("pods", "log"), True,
                     id="a subresource"),
        pytest.param(rule(api_groups=("",), resources=("pods/log",)), of_resource("pods"), False,
                     id="a subresource does not include its resource"),
        pytest.param(rule(api_groups=("",), resources=("*",)), of_resource("pods", "log"), True,
                     id="every resource has its subresources"),
        pytest.param(rule(api_groups=("",), resources=("*/log",)), of_resource("pods", "log"), True,
                     id="a subresource of every resource"),
        pytest.param(rule(api_groups=("",), resources=("*/log",)), of_resource("pods"), False,
                     id="a subresource of every resource does not include the resources"),
        pytest.param(rule(api_groups=("",), resources=("*/log",)), of_resource("pods", "status"), False,
                     id="another subresource"),
        pytest.param(rule(api_groups=("",), resources=("pods/*",)), of_resource("pods", "log"), False,
                     id="a star after the slash is a subresource's name"),
        pytest.param(rule(api_groups=("",), resources=("po*",)), of_resource("pods"), False, id="no patterns"),
        pytest.param(rule(api_groups=("",), resources=("pods",), resource_names=("a", "b")),
                     of_resource("pods", name="b"), True, id="a name"),
        pytest.param(rule(api_groups=("",), resources=("pods",), resource_names=("a",)),
                     of_resource("pods", name="b"), False, id="another name"),
        pytest.param(rule(api_groups=("",), resources=("pods",), resource_names=("a",)),
                     of_resource("pods"), False, id="no name"),
        pytest.param(rule(api_groups=("",), resources=("pods",), resource_names=("*",)),
                     of_resource("pods", name="b"), False, id="a star is a name like others"),
        pytest.param(rule(api_groups=("",), resources=("pods",), resource_names=("*",)),
                     of_resource("pods", name="*"), True, id="a star is a name"),
        pytest.param(rule(non_resource_urls=("/livez",)), of_path("/livez"), True, id="a path"),
        pytest.param(rule(non_resource_urls=("/livez",)), of_path("/livez/ping"), False, id="a path below"),
        pytest.param(rule(non_resource_urls=("/livez/*",)), of_path("/livez/ping"), True, id="paths below"),
        pytest.param(rule(non_resource_urls=("/livez/*",)), of_path("/livez"), False, id="not the path itself"),
        pytest.param(rule(non_resource_urls=("/live*",)), of_path("/livez"), True, id="a beginning"),
        pytest.param(rule(non_resource_urls=("/l**",)), of_path("/livez"), True, id="several stars are one"),
        pytest.param(rule(non_resource_urls=("/l*z",)), of_path("/livez"), False, id="a star within is a star"),
        pytest.param(rule(non_resource_urls=("*",)), of_path("/livez"), True, id="every path"),
        pytest.param(rule(non_resource_urls=("/livez",)), of_path("/livez", "post"), False, id="a path, another verb"),
        pytest.param(rule(non_resource_urls=("*",)), of_resource("pods"), False, id="paths are no resources"),
        pytest.param(rule(api_groups=("*",), resources=("*",)), of_path("/livez"), False, id="resources are no paths"),
    ],
)  # fmt: skip
def test_what_a_rule_allows(policy_rule: PolicyRule, info: RequestInfo, allowed: bool) -> None:
    assert allows(policy_rule, info) is allowed


@pytest.mark.parametrize(
    ("info", "allowed"),
    [
        (of_resource("pods", namespace="web"), True),
        (of_resource("pods", namespace="other"), False),
        pytest.param(of_resource("pods", namespace=""), False, id="across all namespaces"),
        pytest.param(of_path("/livez"), False, id="paths are in no namespace"),
    ],
)
def test_with_namespaces_a_role_is_like_a_role_binding(info: RequestInfo, allowed: bool) -> None:
    policy_rule = rule(api_groups=("",), resources=("pods",), non_resource_urls=("*",))
    assert allows(policy_rule, info, frozenset({"web", "web-2"})) is allowed


NAMED = rule(api_groups=("a",), resources=("pods",), resource_names=("x",), non_resource_urls=("/livez",))


@pytest.mark.parametrize(
    ("info", "allowed", "denied"),
    [
        pytest.param(of_resource("pods", group="a", name="x"), True, True, id="an object of the rule"),
        pytest.param(of_resource("pods", group="a", name="y"), False, False, id="another name"),
        pytest.param(of_resource("pods", group="a"), False, True, id="no name reaches every name"),
        pytest.param(of_resource("pods", group="a", name="x", namespace="other"), False, False, id="another namespace"),
        pytest.param(of_resource("pods", group="a", name="x", namespace="*"), False, True, id="all namespaces"),
        pytest.param(
            of_resource("pods", group="a", name="x", namespace=""), False, False, id="an object of the cluster"
        ),
        pytest.param(of_resource("pods", group="*", name="x"), False, True, id="all API groups"),
        pytest.param(of_resource("pods", group="b", name="x"), False, False, id="another API group"),
        pytest.param(of_resource("*", group="a", name="x"), False, True, id="all resources"),
        pytest.param(of_resource("nodes", group="a", name="x"), False, False, id="another resource"),
        pytest.param(of_resource("*", group="*", namespace="*"), False, True, id="all objects"),
        pytest.param(of_resource("*", verb="list", group="*", namespace="*"), False, False, id="another verb"),
    ],
)
def test_a_rule_of_deny_matches_each_request_that_can_reach_one_of_its_objects(
    info: RequestInfo, allowed: bool, denied: bool
) -> None:
    role = BoundRole(label="role", rules=(NAMED,), namespaces=frozenset({"web"}))
    assert (RuleSet([role]).find_role(info) == "role") is allowed
    assert (RuleSet([role], for_deny=True).find_role(info) == "role") is denied


def test_a_rule_of_deny_for_paths_alone_reaches_no_objects() -> None:
    rule_set = RuleSet([BoundRole(label="role", rules=(rule(non_resource_urls=("*",)),))], for_deny=True)
    assert rule_set.find_role(of_path("/livez")) == "role"
    assert rule_set.find_role(of_resource("*", group="*", namespace="*")) is None


def test_the_first_role_that_allows_is_returned() -> None:
    one = BoundRole(label="one", rules=(PODS,), namespaces=frozenset({"web"}))
    two = BoundRole(label="two", rules=(rule(api_groups=("*",), resources=("*",)),))
    rule_set = RuleSet([one, two])
    assert len(rule_set) == 2
    assert rule_set.find_role(of_resource("pods")) == "one"
    assert rule_set.find_role(of_resource("pods", namespace="x")) == "two"
    assert rule_set.find_role(of_path("/livez")) is None


def test_no_roles_allow_nothing() -> None:
    assert RuleSet([]).find_role(of_resource("pods")) is None


words = st.sampled_from(["a", "b", "*"])
resources = st.sampled_from(["a", "b", "a/s", "b/s", "*/s", "*", "a/*"])
some = st.lists(words, max_size=2).map(tuple)
rules = st.builds(
    PolicyRule,
    verbs=some,
    api_groups=some,
    resources=st.lists(resources, max_size=3).map(tuple),
    resource_names=some,
    non_resource_urls=st.lists(st.sampled_from(["/a", "/a*", "/a/b", "*", "/a/**"]), max_size=2).map(tuple),
)
requests = st.builds(
    RequestInfo,
    verb=st.sampled_from(["a", "b", ""]),
    group=st.sampled_from(["a", "b", "c"]),
    resource=st.sampled_from(["a", "b", ""]),
    subresource=st.sampled_from(["", "s", "t"]),
    namespace=st.sampled_from(["", "n", "m"]),
    name=st.sampled_from(["", "a", "b", "*"]),
    path=st.sampled_from(["/a", "/a/b", "/", "/b"]),
)


def allows_as_kubernetes(policy_rule: PolicyRule, info: RequestInfo) -> bool:
    """Reimplement RuleAllows of plugin/pkg/auth/authorizer/rbac."""
    if not any(each in ("*", info.verb) for each in policy_rule.verbs):
        return False
    if not info.resource:
        return any(
            url in ("*", info.path) or (url.endswith("*") and info.path.startswith(url.rstrip("*")))
            for url in policy_rule.non_resource_urls
        )
    combined = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    return (
        any(each in ("*", info.group) for each in policy_rule.api_groups)
        and any(
            each in ("*", combined) or (info.subresource and each == f"*/{info.subresource}")
            for each in policy_rule.resources
        )
        and (not policy_rule.resource_names or info.name in policy_rule.resource_names)
    )


@given(
    st.lists(st.tuples(st.lists(rules, max_size=3), st.none() | st.sets(st.sampled_from("nm"))), max_size=3), requests
)
def test_every_rule_set_decides_as_its_rules_one_by_one(
    given_roles: list[tuple[list[PolicyRule], set[str] | None]], info: RequestInfo
) -> None:
    roles = [
        BoundRole(label=str(number), rules=tuple(each), namespaces=None if spaces is None else frozenset(spaces))
        for number, (each, spaces) in enumerate(given_roles)
    ]
    space = info.namespace if info.resource else ""
    expected = [
        role.label
        for role in roles
        if (role.namespaces is None or space in role.namespaces)
        and any(allows_as_kubernetes(each, info) for each in role.rules)
    ]
    assert RuleSet(roles).find_role(info) == (expected[0] if expected else None)


def test_a_cluster_role_is_parsed() -> None:
    raw = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "system:node-Reader"},
        "rules": [
            {"apiGroups": [""], "resources": ["nodes"], "resourceNames": ["n"], "verbs": ["get"]},
            {"nonResourceURLs": ["/livez"], "verbs": ["get"]},
        ],
    }
    assert parse_cluster_role(raw) == ClusterRole(
        name="system:node-Reader",
        rules=(
            PolicyRule(verbs=("get",), api_groups=("",), resources=("nodes",), resource_names=("n",)),
            PolicyRule(verbs=("get",), non_resource_urls=("/livez",)),
        ),
    )


def test_an_aggregated_role_can_have_no_rules() -> None:
    assert parse_cluster_role({"metadata": {"name": "view"}, "rules": None}).rules == ()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"metadata": {"name": "a\x1b"}}, "metadata.name: is not the name of a role"),
        ({"metadata": {}}, "metadata.name: is not the name of a role: printable characters, no '/' and no '%'"),
        ({"metadata": {"name": "a/b"}}, "metadata.name: is not the name of a role"),
        ({"metadata": {"name": "a%b"}}, "metadata.name: is not the name of a role"),
        ({"metadata": {"name": ".."}}, "metadata.name: is not the name of a role"),
        ({"metadata": {"name": "a"}, "rules": {}}, "rules: is not a list"),
        ({"metadata": {"name": "a"}, "rules": [{"verbs": "get"}]}, "rules[0].verbs: is not a list"),
        ({"metadata": {"name": "a"}, "rules": [{"verbs": [5]}]}, "rules[0].verbs[0]: is not a string"),
        ({"metadata": {"name": "a"}, "rules": [{}] * (MAX_RULES + 1)}, "rules: has more than 4096 rules"),
    ],
)
def test_an_invalid_cluster_role_is_refused(raw: dict[str, object], message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_cluster_role(raw)
    assert str(caught.value).startswith(message)


def test_a_role_with_the_maximum_number_of_rules_is_accepted() -> None:
    assert len(parse_cluster_role({"metadata": {"name": "a"}, "rules": [{}] * MAX_RULES}).rules) == MAX_RULES
