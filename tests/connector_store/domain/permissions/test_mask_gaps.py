from connector_store.domain.permissions.builtin_roles import BUILTIN_ROLES
from connector_store.domain.permissions.mask_gaps import find_mask_gaps
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule

PARTS = ("issuing", "streams", "rights", "workloads")


def bound(*names: str, namespaces: frozenset[str] | None = None) -> list[BoundRole]:
    return [BoundRole(label=name, rules=BUILTIN_ROLES[name].rules, namespaces=namespaces) for name in names]


def own(verb: str, group: str, resource: str) -> list[BoundRole]:
    return [BoundRole(label="own", rules=(PolicyRule(verbs=(verb,), api_groups=(group,), resources=(resource,)),))]


def gaps(allow: list[BoundRole] | None, deny: list[BoundRole]) -> list[str]:
    return [gap.partition(" ")[0].removeprefix("connectors-credentials-") for gap in find_mask_gaps(allow, deny)]


def test_without_limits_every_part_is_a_gap() -> None:
    assert gaps(None, []) == [*PARTS]
    assert find_mask_gaps(None, ())[1] == "connectors-credentials-streams (exec, attach, port-forward and proxies)"


def test_the_parts_in_deny_close_the_gaps() -> None:
    for part in PARTS:
        others = [f"connectors-credentials-{each}" for each in PARTS if each != part]
        assert gaps(None, bound(*others)) == [part]
    assert gaps(None, bound(*(f"connectors-credentials-{each}" for each in PARTS))) == []
    assert gaps(None, bound("connectors-credentials")) == []


def test_a_part_that_is_denied_in_one_namespace_stays_a_gap() -> None:
    deny = bound(*(f"connectors-credentials-{each}" for each in PARTS), namespaces=frozenset({"web"}))
    assert gaps(None, deny) == [*PARTS]


def test_roles_without_such_rights_need_no_deny() -> None:
    assert gaps(bound("connectors-agent"), []) == []
    assert gaps(bound("edit"), []) == [*PARTS]


def test_wildcards_and_names_of_subresources_are_compared() -> None:
    assert gaps(own("create", "", "pods/exec"), []) == ["streams"]
    assert gaps(own("get", "", "*"), []) == ["issuing", "streams"]
    assert gaps(own("create", "", "*/exec"), []) == ["streams"]
    assert gaps(own("get", "", "pods/log"), []) == []
    assert gaps(own("patch", "apps", "deployments"), []) == ["workloads"]
    assert gaps(own("patch", "apps", "deployments/scale"), []) == []
    assert gaps(own("*", "x.io", "*"), []) == ["streams", "rights"]
