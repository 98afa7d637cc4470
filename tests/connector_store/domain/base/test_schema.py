"""Unknown fields, and suggestions for them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.base import schema
from connector_store.domain.base.schema import (
    CONNECTOR_SPEC,
    MAX_UNKNOWN_FIELDS,
    Shape,
    find_unknown_fields,
    suggest_name,
)

CRD = Path(__file__).parents[4] / "deploy" / "crds" / "connectors.yaml"


def connector(**spec: Any) -> dict[str, Any]:
    return {"kind": "Connector", "metadata": {"name": "k8s"}, "spec": {"address": "https://x", **spec}}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param(connector(), [], id="a valid Connector"),
        pytest.param(
            connector(caCertSecretReff={"name": "x"}),
            ["spec.caCertSecretReff: unknown field; did you mean caCertSecretRef?"],
            id="a slip in an optional field",
        ),
        pytest.param(
            connector(connectorClasName="k8s", adress2="x"),
            [
                "spec.connectorClasName: unknown field; did you mean connectorClassName?",
                "spec.adress2: unknown field; did you mean address?",
            ],
            id="each of several, in order",
        ),
        pytest.param(
            connector(auth={"secretRef": {"nam": "x"}}),
            ["spec.auth.secretRef.nam: unknown field; did you mean name?"],
            id="deep in an object",
        ),
        pytest.param(
            connector(params=[{"name": "a"}, {"name": "b", "valeu": 1}]),
            ["spec.params[1].valeu: unknown field; did you mean value?"],
            id="deep in a list",
        ),
        pytest.param(
            connector(ADDRESS="x"),
            ["spec.ADDRESS: unknown field; did you mean address?"],
            id="another case",
        ),
        pytest.param(connector(zzz=1), ["spec.zzz: unknown field"], id="no similar field"),
        pytest.param(
            {"kind": "Secret", "strngData": {}},
            ["strngData: unknown field; did you mean stringData?"],
            id="of a Secret",
        ),
        pytest.param({"kind": "Secret", "data": {"anything": "x"}}, [], id="keys of a Secret are the user's"),
        pytest.param({"kind": "ConnectorClass", "spec": {"new": 1}}, [], id="unknown fields of a class"),
        pytest.param({"kind": "Connector", "status": {"anything": 1}}, [], id="a status is not read"),
        pytest.param({"kind": "Connector", "spec": "text"}, [], id="another type is for the parser to say"),
        pytest.param({"kind": "Pod", "nothing": 1}, [], id="another kind"),
        pytest.param({}, [], id="empty object"),
    ],
)
def test_unknown_fields_are_reported(raw: dict[str, Any], expected: list[str]) -> None:
    assert [str(error) for error in find_unknown_fields(raw)] == expected


def test_the_number_of_reported_fields_is_limited() -> None:
    many = {f"z{number}": 1 for number in range(1000)}
    assert len(find_unknown_fields(connector(**many))) == MAX_UNKNOWN_FIELDS


def test_a_long_name_is_compared_by_its_beginning() -> None:
    assert suggest_name("x" * 100_000, ["address"]) == ""


def test_a_connector_has_the_fields_of_its_definition() -> None:
    served = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert shape_of(served["properties"]["spec"]) == CONNECTOR_SPEC
    assert set(served["properties"]) == set(schema._SHAPES["Connector"])


def shape_of(definition: dict[str, Any]) -> Shape | None:
    inner = definition.get("items", definition).get("properties")
    return None if inner is None else {name: shape_of(each) for name, each in inner.items()}


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("x-drian", "; did you mean x-drain?"), ("xx-drain", "; did you mean x-drain?"), ("x-q", ""), ("y", "")],
)
def test_a_common_prefix_makes_no_name_similar(name: str, suggestion: str) -> None:
    assert suggest_name(name, ["x-drain", "x-audience"], prefix="x") == suggestion
