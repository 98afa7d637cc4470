"""Rows of the inventory."""

from pathlib import Path
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from connector_store.domain.status.status import Condition, ConditionStatus
from connector_store.store import Store
from connectorctl.example import MANIFESTS
from connectorctl.folder_source import load_store
from connectorctl.inventory import MAX_NAMES, Inventory, Row, build_rows, not_found_error
from lab.manifests import connector

KEY = ObjectKey("default", "k8s-connector")
OTHERS = """
---
apiVersion: connectors.alauda.io/v1alpha1
kind: ConnectorClass
metadata: {name: git}
spec: {auth: {types: [{name: basic, secretType: kubernetes.io/basic-auth}]}}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: repository, namespace: a}
spec: {connectorClassName: git, address: "https://git.example"}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: broken, namespace: b}
spec: {connectorClassName: k8s, address: "ftp://x"}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: alone, namespace: b}
spec: {connectorClassName: k8s, address: "https://x", auth: {name: bearerTokenAuth, secretRef: {name: absent}}}
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    usable = MANIFESTS.replace("REPLACE-WITH-A-TOKEN", "s3cret").replace("k8s.example", "k8s.corp")
    (tmp_path / "all.yaml").write_text(usable + OTHERS)
    return load_store(tmp_path, Settings())


def test_each_connector_has_a_row_in_order_of_name(store: Store) -> None:
    rows = build_rows(Inventory(store=store), None)
    assert [(str(row.connector), row.address, row.usable, row.ready, row.reason) for row in rows] == [
        ("a/repository", "https://git.example:443", False, None, "NotOurs"),
        ("b/alone", "https://x:443", False, None, "SecretNotFound"),
        ("b/broken", None, False, None, "AddressInvalid"),
        ("default/k8s-connector", "https://k8s.corp:6443", True, None, ""),
    ]
    assert '"absent" not found' in rows[1].message


def test_a_namespace_limits_the_rows(store: Store) -> None:
    assert [row.connector.name for row in build_rows(Inventory(store=store), "b")] == ["alone", "broken"]
    assert build_rows(Inventory(store=store), "nope") == []


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [("True", "", ""), ("False", "ConnectionFailed", "it is down"), ("Unknown", "NotProbed", "it is down")],
)
def test_the_controllers_condition_is_next_to_the_proxys_result(
    store: Store, status: ConditionStatus, reason: str, message: str
) -> None:
    condition = Condition(type="Ready", status=status, reason=reason, message=message)
    [row] = build_rows(Inventory(store=store, ready_conditions={KEY: condition}), "default")
    address = "https://k8s.corp:6443"
    assert row == Row(
        connector=KEY,
        address=address,
        usable=True,
        ready=status,
        auth="bearerTokenAuth",
        allows="all",
        reason=reason,
        message=message,
    )


def test_the_proxys_reason_comes_first(store: Store) -> None:
    condition = Condition(type="Ready", status="False", reason="Other", message="other")
    row = build_rows(Inventory(store=store, ready_conditions={ObjectKey("b", "alone"): condition}), "b")[0]
    assert (row.usable, row.ready, row.reason) == (False, "False", "SecretNotFound")


@pytest.mark.parametrize(
    ("spec", "allows"),
    [
        pytest.param({}, "all", id="no permissions"),
        pytest.param({"permissions": {"deny": [{"clusterRole": "edit"}]}}, "all but denied", id="deny"),
        pytest.param({"permissions": {"allow": [{"clusterRole": "view"}]}}, "roles", id="allow"),
        pytest.param(
            {"permissions": {"mask": [{"resources": ["secrets"]}], "dryRun": True}, "limits": {"writesPerMinute": 1}},
            "all, masked, dry run, limited",
            id="a mask, plan mode and limits",
        ),
    ],
)
def test_a_row_says_what_the_connector_allows(spec: dict[str, Any], allows: str) -> None:
    manifest = connector("prod", "https://k8s.corp:6443", namespace="team-a")
    manifest["spec"] |= spec
    parsed = parse_connector(manifest)
    assert isinstance(parsed, Connector)
    store = Store()
    store.put("test", parsed)
    [row] = build_rows(Inventory(store=store), "team-a")
    assert row.allows == allows


@pytest.mark.parametrize(
    ("count", "names"),
    [
        pytest.param(0, "no Connector", id="none"),
        pytest.param(2, "a/c00, a/c01", id="a few"),
        pytest.param(MAX_NAMES + 1, ", ".join(f"a/c{n:02}" for n in range(MAX_NAMES)) + ", …", id="too many"),
    ],
)
def test_the_error_about_an_absent_connector_names_others(count: int, names: str) -> None:
    store = Store()
    store.replace("x", [parse_connector(connector(f"c{n:02}", "https://x", namespace="a")) for n in range(count)])
    error = not_found_error(store, ObjectKey("a", "absent"))
    assert str(error) == f'connectors.connectors.alauda.io "absent" not found in namespace "a"; there is: {names}'
