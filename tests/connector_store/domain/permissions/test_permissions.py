import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.permissions.permissions import Permissions, RoleEntry, parse_permissions
from connector_store.domain.permissions.restrictions import Restrictions


def parsed(value: object) -> Permissions | None:
    return parse_permissions(Fields({"permissions": value}, "spec"))


def test_permissions_are_parsed() -> None:
    permissions = parsed({"allow": [{"clusterRole": "view", "namespaces": ["a", "b"]}, {"clusterRole": "x:Y"}]})
    assert permissions == Permissions(
        allow=(RoleEntry(cluster_role="view", namespaces=frozenset("ab")), RoleEntry(cluster_role="x:Y"))
    )
    assert permissions.role_names == {"view", "x:Y"}
    both = parsed({"allow": [{"clusterRole": "view"}], "deny": [{"clusterRole": "secrets"}]})
    assert both is not None
    assert both.role_names == {"view", "secrets"}
    assert parsed({"deny": [{"clusterRole": "a"}]}) == Permissions(allow=None, deny=(RoleEntry(cluster_role="a"),))
    assert parsed(None) is None


MASK = {"mask": [{"resources": ["secrets"]}]}


def test_a_mask_needs_no_roles() -> None:
    assert parsed(MASK) == Permissions(allow=None, restrictions=Restrictions(masks_secrets=True))
    assert parsed(MASK | {"allow": [{"clusterRole": "connectors-agent"}]}) is not None


def test_entries_and_namespaces_at_their_limits_are_accepted() -> None:
    permissions = parsed({"deny": [{"clusterRole": "a", "namespaces": [f"n{index}" for index in range(256)]}] * 32})
    assert permissions is not None
    assert len(permissions.deny) == 32


def test_permissions_on_request_are_those_that_a_request_may_add() -> None:
    permissions = parsed(
        {"allow": [{"clusterRole": "view"}], "onRequest": {"allow": [{"clusterRole": "edit", "namespaces": ["web"]}]}}
    )
    assert permissions is not None
    assert permissions.on_request == (RoleEntry(cluster_role="edit", namespaces=frozenset({"web"})),)
    assert permissions.role_names == {"view", "edit"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("view", "spec.permissions: is not an object"),
        ({}, "spec.permissions: has neither allow nor deny; name a ClusterRole in one of them, or leave it out"),
        ({"allow": []}, "spec.permissions.allow: is empty; name a ClusterRole, or leave the field out"),
        ({"deny": [], "allow": [{"clusterRole": "a"}]}, "spec.permissions.deny: is empty"),
        (
            {"Allow": []},
            "spec.permissions.Allow: is not a field; permissions have allow, deny, onRequest, mask, dryRun",
        ),
        ({"allow": {}}, "spec.permissions.allow: is not a list"),
        ({"mask": []}, "spec.permissions.mask: has one entry"),
        (
            {"allow": [{"clusterRole": "connectors-agent"}]},
            "spec.permissions.mask: is missing: ClusterRole connectors-agent allows reading Secrets",
        ),
        ({"allow": ["view"]}, "spec.permissions.allow[0]: is not an object"),
        ({"allow": [{"clusterrole": "a"}]}, "spec.permissions.allow[0].clusterrole: is not a field"),
        ({"allow": [{"clusterRole": ""}]}, "spec.permissions.allow[0].clusterRole: is not the name of a role"),
        ({"deny": [{"clusterRole": "a/b"}]}, "spec.permissions.deny[0].clusterRole: is not the name of a role"),
        ({"deny": [{"clusterRole": "a"}] * 33}, "spec.permissions.deny: has more than 32 entries"),
        ({"deny": [{"clusterRole": "a", "namespaces": "b"}]}, "spec.permissions.deny[0].namespaces: is not a list"),
        ({"deny": [{"clusterRole": "a", "namespaces": []}]}, "spec.permissions.deny[0].namespaces: is empty"),
        (
            {"deny": [{"clusterRole": "a", "namespaces": ["b", "*"]}]},
            "spec.permissions.deny[0].namespaces[1]: is not the name of a namespace",
        ),
        (
            {"deny": [{"clusterRole": "a", "namespaces": ["b"] * 257}]},
            "spec.permissions.deny[0].namespaces: has more than 256 namespaces",
        ),
        (
            {"allow": [{"clusterRole": "a"}], "onRequest": {"deny": []}},
            "spec.permissions.onRequest.deny: is not a field; onRequest has allow",
        ),
        (
            {"deny": [{"clusterRole": "a"}], "onRequest": {"allow": [{"clusterRole": "b"}]}},
            "spec.permissions.onRequest: adds nothing without allow",
        ),
        (
            {"allow": [{"clusterRole": "a"}], "onRequest": {"allow": [{"clusterRole": ""}]}},
            "spec.permissions.onRequest.allow[0].clusterRole: is not the name of a role",
        ),
    ],
)
def test_invalid_permissions_are_refused(value: object, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parsed(value)
    assert str(caught.value).startswith(message)
