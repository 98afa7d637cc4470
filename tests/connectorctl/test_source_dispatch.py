"""Commands use the source that their options name. Folders and clusters have tests of their own."""

from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl.invocation import Invocation
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.source_dispatch import build_entries, issue_token, load_inventory

KEY = ObjectKey("default", "k8s-connector")
PLAIN = Invocation()
CLUSTER = SourceOptions(kubeconfig="absent")
ROBOT = CallerOptions(service_account=ObjectKey("ci", "robot"))


def test_a_folder_source_is_used(connectors: Path) -> None:
    caller_options = CallerOptions(confdir=Path("confdir"))
    inventory = load_inventory(SourceOptions(), PLAIN, namespace=None)
    assert [connector.key for connector in inventory.store.connectors()] == [KEY]
    assert issue_token(KEY, SourceOptions(), caller_options, PLAIN).count(".") == 2
    (entry,) = build_entries([KEY], SourceOptions(), caller_options, PLAIN, proxy="http://p:1")
    assert (entry.key, entry.proxy) == (KEY, "http://p:1")


def test_a_cluster_source_is_used(workdir: Path) -> None:
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        load_inventory(CLUSTER, PLAIN, namespace=None)
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        issue_token(KEY, CLUSTER, ROBOT, PLAIN)
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        build_entries([KEY], CLUSTER, ROBOT, PLAIN, proxy=None)


def test_a_missing_folder_is_named(workdir: Path) -> None:
    with pytest.raises(ParseError, match="connectorctl init"):
        load_inventory(SourceOptions(), PLAIN, namespace=None)
