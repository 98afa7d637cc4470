import pytest

from connector_store.domain.permissions.builtin_roles import BUILTIN_ROLES
from connector_store.domain.permissions.ineffective_rights import find_ineffective_rights
from connector_store.domain.permissions.rbac import BoundRole
from connector_store.domain.permissions.restrictions import Restrictions

MASK, PLAN = Restrictions(masks_secrets=True), Restrictions(dry_run=True)


def bound(*names: str, namespaces: frozenset[str] | None = None) -> list[BoundRole]:
    return [BoundRole(label=name, rules=BUILTIN_ROLES[name].rules, namespaces=namespaces) for name in names]


@pytest.mark.parametrize(
    ("allow", "deny", "restrictions", "expected"),
    [
        (bound("edit", "view"), [], MASK, ["mask refuses writes of Secrets, which edit of allow covers"]),
        (bound("edit"), [], PLAN,
         ["dryRun refuses exec, attach, port-forward, proxies and tokens, which edit of allow covers"]),
        (None, bound("connectors-credentials"), MASK,
         ["mask has no effect, because connectors-credentials of deny covers reading Secrets"]),
        (None, bound("connectors-credentials", namespaces=frozenset({"web"})), MASK, []),
        (bound("connectors-agent", "connectors-permissions-read-only"), bound("connectors-credentials-streams"),
         Restrictions(masks_secrets=True, dry_run=True), []),
        (bound("edit"), bound("connectors-credentials"), Restrictions(), []),
    ],
)  # fmt: skip
def test_fields_that_do_not_work_together(
    allow: list[BoundRole] | None, deny: list[BoundRole], restrictions: Restrictions, expected: list[str]
) -> None:
    assert list(find_ineffective_rights(allow, deny, restrictions)) == expected
