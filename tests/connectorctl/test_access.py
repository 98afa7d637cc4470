"""A command's options -> the source that they name; folders and clusters have tests of their own."""

from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connectorctl.access import entries, load, mint
from connectorctl.options import Caller, Where
from connectorctl.situation import Situation

KEY = ObjectKey("default", "k8s-connector")
SETTINGS = Settings()
NOWHERE = Situation()
CLUSTER = Where(kubeconfig="absent")
ROBOT = Caller(service_account=ObjectKey("ci", "robot"))


def test_a_folder_is_read(connectors: Path) -> None:
    caller = Caller(confdir=Path("confdir"))
    seen = load(Where(), SETTINGS, NOWHERE, namespace=None)
    assert [each.key for each in seen.store.connectors()] == [KEY]
    assert mint(KEY, Where(), caller, SETTINGS, NOWHERE).count(".") == 2
    (entry,) = entries([KEY], Where(), caller, SETTINGS, NOWHERE, proxy="http://p:1")
    assert (entry.key, entry.proxy) == (KEY, "http://p:1")


def test_a_cluster_is_asked(place: Path) -> None:
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        load(CLUSTER, SETTINGS, NOWHERE, namespace=None)
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        mint(KEY, CLUSTER, ROBOT, SETTINGS, NOWHERE)
    with pytest.raises(ValueError, match="kubeconfig absent not found"):
        entries([KEY], CLUSTER, ROBOT, SETTINGS, NOWHERE, proxy=None)


def test_a_folder_that_is_not_there_is_named(place: Path) -> None:
    with pytest.raises(ParseError, match="connectorctl init"):
        load(Where(), SETTINGS, NOWHERE, namespace=None)
