"""ServiceAccounts that a policy lets in without a request."""

from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.label_selector import LabelRequirement, ObjectSelector
from connector_store.domain.callers.access import Identity
from connector_store.domain.grants.default_permission import find_default_policy
from connector_store.domain.objects.access_objects import AccountSelector
from tests.connector_store.domain.grants.access_objects import CI, CONNECTOR, JANE, POLICY

LABELS = {"ci": {"project": "a"}, "dev": {"project": "b"}}
EVERYONE = replace(POLICY, approval=None, accounts=(AccountSelector(),))


def accounts(**selector: Any) -> dict[str, Any]:
    return {"accounts": (AccountSelector(**selector),)}


def labels(**selector: Any) -> dict[str, Any]:
    return accounts(namespaces=ObjectSelector(**selector))


@pytest.mark.parametrize(
    ("user", "change", "is_let_in"),
    [
        pytest.param(CI, {}, True, id="all accounts"),
        pytest.param("jane", {}, False, id="a person"),
        pytest.param("system:serviceaccount", {}, False, id="a name that is not that of an account"),
        pytest.param(CI, {"accounts": ()}, False, id="no account"),
        pytest.param(CI, accounts(names=frozenset({"builder"})), True, id="its name"),
        pytest.param(CI, accounts(names=frozenset({"other"})), False, id="another name"),
        pytest.param(CI, labels(names=frozenset({"ci"})), True, id="its namespace"),
        pytest.param(CI, labels(names=frozenset({"dev"})), False, id="another namespace"),
        pytest.param(CI, labels(labels=(("project", "a"),)), True, id="a label of its namespace"),
        pytest.param(CI, labels(labels=(("project", "b"),)), False, id="a label of another namespace"),
        pytest.param(
            "system:serviceaccount:new:builder",
            labels(requirements=(LabelRequirement(key="project", operator="DoesNotExist"),)),
            False,
            id="a namespace whose labels are not known",
        ),
        pytest.param(CI, {"problems": ("x",)}, False, id="a policy with something that is not supported"),
        pytest.param(CI, {"is_deleted": True}, False, id="a policy that is being deleted"),
        pytest.param(CI, {"connector": ObjectSelector(names=frozenset({"b"}))}, False, id="another Connector"),
        pytest.param(CI, {"connector": ObjectSelector(labels=(("env", "prod"),))}, True, id="a label of it"),
    ],
)
def test_a_policy_lets_in(user: str, change: dict[str, Any], is_let_in: bool) -> None:
    policy = replace(EVERYONE, **change)
    found = find_default_policy([policy], CONNECTOR, Identity(user=user), LABELS.get)
    assert found == (policy if is_let_in else None)


def test_the_first_policy_that_lets_in_counts() -> None:
    other = replace(EVERYONE, accounts=(), uid="p-0")
    assert find_default_policy([other, EVERYONE, POLICY], CONNECTOR, Identity(user=CI), LABELS.get) is EVERYONE
    assert find_default_policy([EVERYONE], CONNECTOR, JANE, LABELS.get) is None
