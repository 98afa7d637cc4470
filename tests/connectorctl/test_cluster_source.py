"""The cluster source with a fake API server. tests/cluster/connectorctl uses a real one."""

import asyncio

import pytest

from connector_store.domain.config.connector_source import ClusterSource
from connector_store.domain.config.settings import Settings
from connector_store.kube.resources import ACCESS_LOCKS, CONNECTORS
from connector_store.kube.server_clock import ServerClock
from connectorctl import cluster_source
from connectorctl.option_values import SourceOptions
from tests.connectorctl.published_connector import KEY, connector
from tests.fakes.api_server import FakeApiServer

SETTINGS = Settings()


async def test_connectors_are_listed_with_their_ready_condition(
    server: FakeApiServer, source_options: SourceOptions
) -> None:
    raw = connector()
    raw["status"] = {"conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "m"}]}
    await server.put(CONNECTORS, raw)
    inventory = await asyncio.to_thread(
        cluster_source.load_inventory, source_options, ClusterSource(), SETTINGS, namespace=None
    )
    assert [connector.key for connector in inventory.store.connectors()] == [KEY]
    assert inventory.ready_conditions is not None
    assert inventory.ready_conditions[KEY].reason == "R"


async def test_the_clock_of_the_api_server_ends_locks(
    server: FakeApiServer, source_options: SourceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.put(
        ACCESS_LOCKS,
        {"metadata": {"name": "l", "namespace": "a"}, "spec": {"until": "2020-01-01T00:00:00Z", "reason": "x"}},
    )
    monkeypatch.setattr(ServerClock, "now", lambda _: 1e9)
    inventory = await asyncio.to_thread(
        cluster_source.load_inventory, source_options, ClusterSource(), SETTINGS, namespace=None
    )
    assert [lock.key.name for lock in inventory.store.access.current_locks()] == ["l"]
