"""A command's options -> the source that they name; folders and clusters have tests of their own."""

from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connectorctl.invocation import Invocation
from connectorctl.options import CallerOptions, SourceOptions
from connectorctl.source_dispatch import build_entries, issue_token, load_inventory

KEY = ObjectKey("default", "k8s-connector")
SETTINGS = Settings()
NOWHERE = Invocation()
CLUSTER = SourceOptions(kubeconfig="absent")
ROBOT = CallerOptions(service_account=ObjectKey("ci", "robot"))


def test_a_folder_is_read(connectors: Path) -> None:
    caller = CallerOptions(confdir=Path("confdir"))
    seen = load_inventory(SourceOptions(), SETTINGS, NOWHERE, namespace=None)
    assert [each.key for each in seen.store.connectors()] == [KEY]
    assert issue_token(KEY, SourceOptions(), caller, SETTINGS, NOWHERE).count(".") == 2
    (entry,) = build_entries([KEY], SourceOptions(), caller, SETTINGS, NOWHERE, proxy="http://p:1")
    assert (entry.key, entry.proxy) == (KEY, "http://p:1")


def test_a_cluster_is_asked(place: Path) -> None:
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        load_inventory(CLUSTER, SETTINGS, NOWHERE, namespace=None)
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        issue_token(KEY, CLUSTER, ROBOT, SETTINGS, NOWHERE)
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        build_entries([KEY], CLUSTER, ROBOT, SETTINGS, NOWHERE, proxy=None)


def test_a_folder_that_is_not_there_is_named(place: Path) -> None:
    with pytest.raises(ParseError, match="connectorctl init"):
        load_inventory(SourceOptions(), SETTINGS, NOWHERE, namespace=None)
