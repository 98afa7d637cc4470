"""Which changes of a shipped admission policy are found, and which belong to an API server or an installation."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.grants.admission import ADMISSION_POLICIES
from connector_store.domain.grants.shipped_policies import SPEC_DIGESTS, digest_spec, has_shipped_spec

Json = dict[str, Any]
SHIPPED = [
    each
    for each in yaml.safe_load_all((Path(__file__).parents[4] / "deploy/policy/access.yaml").read_text())
    if each["kind"] == "ValidatingAdmissionPolicy"
]
BY_NAME: dict[str, Json] = {each["metadata"]["name"]: each for each in SHIPPED}
REQUESTS, APPROVALS = (BY_NAME[f"{plural}.connectors.alauda.io"] for plural in ("accessrequests", "accessapprovals"))
CONTROLLER = "system:serviceaccount:connectors-system:connectors-controller"
DRIVER = "system:serviceaccount:connectors-csi:connectors-csi"


def changed(policy: Json, change: Callable[[Json], object]) -> Json:
    copy = deepcopy(policy)
    change(copy["spec"])
    return copy


def renamed(policy: Json, name: str, other: str) -> Json:
    copy: Json = json.loads(json.dumps(policy).replace(name, other))
    assert copy != policy
    return copy


def test_the_digests_are_those_of_the_shipped_policies() -> None:
    """After a change of deploy/policy/access.yaml, copy the digests from this test."""
    assert {name: digest_spec(each["spec"], CONTROLLER) for name, each in BY_NAME.items()} == SPEC_DIGESTS
    assert sorted(SPEC_DIGESTS) == sorted(ADMISSION_POLICIES)


@pytest.mark.parametrize("policy", SHIPPED, ids=BY_NAME)
def test_what_an_api_server_adds_is_not_a_change(policy: Json) -> None:
    def fill_in(spec: Json) -> None:
        constraints = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
        spec["matchConstraints"] |= constraints | {"fieldOfALaterKubernetes": "x"}
        spec["matchConstraints"]["resourceRules"][0]["scope"] = "*"
        spec |= {"failurePolicy": "Fail", "fieldOfALaterKubernetes": {"name": "x"}}
        for field in ("variables", "matchConditions"):
            spec[field] = spec.get(field, [])[::-1]

    assert has_shipped_spec(changed(policy, fill_in), CONTROLLER)
    assert has_shipped_spec(changed(policy, lambda spec: spec.pop("failurePolicy")), CONTROLLER)


def test_an_installation_has_its_own_accounts() -> None:
    controller = "system:serviceaccount:platform:team.controller"
    for policy in (REQUESTS, APPROVALS):
        elsewhere = renamed(policy, CONTROLLER, controller)
        assert has_shipped_spec(elsewhere, controller)
        assert not has_shipped_spec(elsewhere, CONTROLLER), "it lets another account act as the controller"
        assert not has_shipped_spec(policy, controller), "it lets another account act as the controller"
    assert has_shipped_spec(renamed(REQUESTS, DRIVER, "system:serviceaccount:nodes:a.csi-driver"), CONTROLLER)


@pytest.mark.parametrize("driver", ["joe", 'system:serviceaccount:a:b" || "" == "', "system:serviceaccount:a"])
def test_the_driver_is_a_service_account(driver: str) -> None:
    def change(spec: Json) -> None:
        variable = next(each for each in spec["variables"] if each["name"] == "driver")
        variable["expression"] = f'request.userInfo.username == "{driver}"'

    assert not has_shipped_spec(changed(REQUESTS, change), CONTROLLER)


def expressions() -> Iterator[Any]:
    """Yield each part of a policy with an expression, as its name, field and index."""
    for name, policy in BY_NAME.items():
        for field in ("matchConditions", "variables", "validations"):
            for index in range(len(policy["spec"].get(field, ()))):
                yield pytest.param(name, field, index, id=f"{name.partition('.')[0]}-{field}-{index}")


@pytest.mark.parametrize(("name", "field", "index"), list(expressions()))
def test_every_expression_is_compared(name: str, field: str, index: int) -> None:
    def allow_all(spec: Json) -> None:
        spec[field][index]["expression"] = "true"

    def remove(spec: Json) -> None:
        del spec[field][index]

    assert has_shipped_spec(BY_NAME[name], CONTROLLER)
    assert not has_shipped_spec(changed(BY_NAME[name], allow_all), CONTROLLER)
    assert not has_shipped_spec(changed(BY_NAME[name], remove), CONTROLLER)


def _rule(spec: Json) -> Json:
    rule: Json = spec["matchConstraints"]["resourceRules"][0]
    return rule


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda spec: _rule(spec).update(operations=["CREATE"]), id="an operation less"),
        pytest.param(lambda spec: _rule(spec).update(resources=["accessapprovals"]), id="a resource less"),
        pytest.param(lambda spec: _rule(spec).update(apiVersions=["v1"]), id="another version"),
        pytest.param(lambda spec: _rule(spec).update(scope="Cluster"), id="another scope"),
        pytest.param(lambda spec: _rule(spec).update(resourceNames=["a"]), id="names"),
        pytest.param(lambda spec: spec["matchConstraints"].update(matchPolicy="Exact"), id="another match policy"),
        pytest.param(lambda spec: spec["matchConstraints"].update(objectSelector={"matchLabels": {"a": "b"}}),
                     id="a selector"),
        pytest.param(lambda spec: spec["matchConstraints"].update(excludeResourceRules=[_rule(spec)]), id="exclusion"),
        pytest.param(lambda spec: spec["matchConditions"].append({"name": "a", "expression": "false"}),
                     id="a condition more"),
        pytest.param(lambda spec: spec["validations"].reverse(), id="another order of validations"),
        pytest.param(lambda spec: spec.update(failurePolicy="Ignore"), id="another failure policy"),
        pytest.param(lambda spec: spec.update(paramKind={"apiVersion": "v1", "kind": "Secret"}), id="parameters"),
        pytest.param(lambda spec: spec.clear(), id="nothing is left"),
    ],
)  # fmt: skip
def test_a_policy_that_matches_other_objects_is_found(change: Callable[[Json], object]) -> None:
    assert not has_shipped_spec(changed(REQUESTS, change), CONTROLLER)


def test_other_policies_are_not_compared() -> None:
    assert has_shipped_spec({"metadata": {"name": "approvaltasks.connectors.alauda.io"}, "spec": {}}, CONTROLLER)
