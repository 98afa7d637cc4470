"""The values of charts/kubernetes-connector: schema and README name each of them, and invalid ones are refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.config import settings
from lab.helm import Helm

CHART = Path(__file__).parents[3] / "charts" / "kubernetes-connector"
Values = dict[str, Any]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"proxi": {}}, "proxi", id="a misspelt group"),
        pytest.param({"proxy": {"replica": 3}}, "replica", id="a misspelt value"),
        pytest.param({"proxy": {"replicas": "3"}}, "/proxy/replicas", id="text for a number"),
        pytest.param({"settings": {"targetsDeny": "x"}}, "targetsDeny", id="a setting in another spelling"),
        pytest.param({"settings": {"probe-intervall": 5}}, "probe-intervall", id="a misspelt setting"),
        pytest.param({"settings": {"system-namespace": "x"}}, "system-namespace", id="another value's setting"),
        pytest.param(
            {"proxy": {"podDisruptionBudget": {"maxUnavailable": "150%"}}},
            "/proxy/podDisruptionBudget/maxUnavailable",
            id="more than all",
        ),
        pytest.param(
            {"settings": {"drain": 3600}, "proxy": {"terminationGracePeriodSeconds": 75}},
            "proxy.terminationGracePeriodSeconds: 75 is too short for settings.drain=3600; use at least 3610",
            id="a grace that cuts off the drain",
        ),
        pytest.param(
            {"proxy": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}},
            "maxReplicas: 2 is less than minReplicas 5",
            id="fewer than the fewest",
        ),
        pytest.param(
            {"proxy": {"autoscaling": {"enabled": True, "targetCPU": ""}}},
            "set targetCPU, targetMemory or metrics",
            id="scaling by nothing",
        ),
        pytest.param({"authentication": {"jwt": {}}}, "/authentication/jwt", id="issuers that are not a list"),
        pytest.param({"pods": {"logLevel": "trace"}}, "/pods/logLevel", id="an unknown log level"),
        pytest.param({"pods": {"extraEnv": None}}, "'extraEnv'", id="a list of all pods taken away"),
        pytest.param({"controller": None}, "'controller'", id="a group taken away"),
        pytest.param({"policies": {"secrets": None}}, "'secrets'", id="a policy that is neither on nor off"),
        pytest.param({"networkPolicy": {"enabled": None}}, "'enabled'", id="policies that are neither on nor off"),
        pytest.param({"proxy": {"replicas": None}}, "'replicas'", id="a number taken away"),
        pytest.param({"proxy": {"service": None}}, "'service'", id="a group of a group taken away"),
        pytest.param({"csi": {"extraEnv": None}}, "/csi/extraEnv", id="a list taken away"),
        pytest.param({"image": {"repository": None}}, "'repository'", id="an image without a name"),
        pytest.param({"namespaces": {"csi": "connectors-system"}}, "namespaces.csi", id="one namespace for all"),
        pytest.param({"image": {"digest": "latest"}}, "/image/digest", id="a digest that is none"),
        pytest.param({"csi": {"kubeletRoot": "var/lib/kubelet"}}, "/csi/kubeletRoot", id="a relative path"),
        pytest.param({"namespaces": {"system": "Not_A_Name"}}, "/namespaces/system", id="a namespace that is no name"),
        pytest.param({"proxy": {"ingress": {"enabled": True}}}, "proxy.ingress.host", id="an ingress without a host"),
    ],
)
def test_an_invalid_value_is_refused_by_its_name(helm: Helm, values: Values, message: str) -> None:
    done = helm.run("template", "connector", str(CHART), values=values)
    assert done.returncode != 0
    assert message in done.stderr


def test_the_schema_has_the_settings_without_a_value_of_their_own() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    setting_names = schema["properties"]["settings"]["propertyNames"]["enum"]
    assert setting_names == [key for key in settings.SETTINGS if key not in ("namespaces", "system-namespace")]


def test_the_readme_names_every_group_of_values() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = {name.split(".")[0] for name in re.findall(r"`([A-Za-z.]+)`", (CHART / "README.md").read_text())}
    assert set(values) <= named


def test_every_default_is_in_the_schema_and_the_other_way_round() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    open_ended = {"global"}
    programs = {f".{program}.{name}" for program in ("proxy", "controller", "csi") for name in values["pods"]}

    def resolve(each: dict[str, Any]) -> dict[str, Any]:
        for name in each.get("$ref", "").split("/")[1:]:
            each = schema[name] if name == "$defs" else each[name]
        return each

    def names(schema: dict[str, Any], path: str = "") -> set[str]:
        paths = set()
        for name, each in schema.get("properties", {}).items():
            paths |= {f"{path}.{name}"} | names(resolve(each), f"{path}.{name}")
        return paths

    def keys(values: Any, schema: dict[str, Any], path: str = "") -> set[str]:
        paths = set()
        for name, each in values.items():
            paths.add(f"{path}.{name}")
            inner = resolve(schema.get("properties", {}).get(name, {}))
            if isinstance(each, dict) and "properties" in inner and name != "resources":
                paths |= keys(each, inner, f"{path}.{name}")
        return paths

    value_paths, schema_paths = keys(values, schema), names(schema) - {f".{each}" for each in open_ended}
    # The programs take the keys of pods, too.
    assert programs <= schema_paths
    schema_paths = {path for path in schema_paths if ".resources." not in path}
    assert value_paths | programs == schema_paths
