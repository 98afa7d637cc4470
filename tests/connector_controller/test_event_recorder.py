import asyncio
from collections.abc import AsyncIterator

import pytest

from connector_controller import event_recorder
from connector_controller.event_recorder import EventRecorder, Regarding
from connector_store.cache import Lru
from connector_store.domain.base.names import ObjectKey
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import EVENTS
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import until

REGARDING = Regarding("Connector", ObjectKey("team-a", "k8s"), "u1")


class World:
    def __init__(self, server: FakeApiServer, client: KubeClient) -> None:
        self.server, self.client = server, client
        self.now = 1_000_000_000.0
        self.recorder = EventRecorder(client, "pod-1", now=lambda: self.now)

    def record(self, reason: str = "SecretNotFound", note: str = "create it", regarding=REGARDING) -> None:
        self.recorder.record(regarding, "Warning", reason, note)

    async def list_events(self, namespace: str = "team-a"):
        return await self.client.list_objects(EVENTS.path(namespace))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        world_ = World(server, client)
        task = asyncio.ensure_future(world_.recorder.run())
        yield world_
        task.cancel()


async def test_an_event_is_valid_for_the_api(world) -> None:
    world.record(note="\x1b\n" + "x" * 5000)
    await until(lambda: bool(world.server.requests))
    (event,) = await world.list_events()
    assert event["regarding"] == {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "Connector",
        "name": "k8s",
        "namespace": "team-a",
        "uid": "u1",
    }
    assert event["eventTime"] == "2001-09-09T01:46:40.000000Z"
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "SecretNotFound", "Reconcile")
    assert (event["reportingController"], event["reportingInstance"]) == ("connectors.alauda.io/controller", "pod-1")
    assert event["note"] == "??".ljust(1024, "x")


async def test_a_repeated_event_is_counted_and_later_starts_a_new_series(world) -> None:
    for _ in range(3):
        world.record()
    await until(lambda: len(world.server.requests) == 3)
    (event,) = await world.list_events()
    assert event["series"]["count"] == 3
    world.now += event_recorder.SERIES_WINDOW + 1
    world.record()
    world.record(reason="SecretInvalid")
    await until(lambda: world.server.count("POST", "events") == 3)
    assert len(await world.list_events()) == 3


async def test_a_deleted_event_is_created_again_the_next_time(world, caplog) -> None:
    world.record()
    await until(lambda: world.server.count("POST", "events") == 1)
    (event,) = await world.list_events()
    await world.server.delete(EVENTS, event["metadata"]["name"], "team-a")
    world.record()
    await until(lambda: "is lost" in caplog.text)
    world.record()
    await until(lambda: world.server.count("POST", "events") == 2)


async def test_an_event_that_is_refused_is_lost_and_the_next_is_written(world, caplog) -> None:
    world.server.faults.append(lambda request: refusal(403, "Forbidden", "no"))
    world.record()
    await until(lambda: "is lost" in caplog.text)
    world.server.faults.clear()
    world.record()
    await until(lambda: world.server.count("POST", "events") == 2)
    assert len(await world.list_events()) == 1


async def test_cluster_scoped_objects_have_theirs_in_default(world) -> None:
    world.record(regarding=Regarding("ConnectorClass", ObjectKey("", "k8s"), ""))
    await until(lambda: world.server.count("POST", "events") == 1)
    (event,) = await world.list_events("default")
    assert "uid" not in event["regarding"]
    assert "namespace" not in event["regarding"]


async def test_series_and_queue_are_bounded(world) -> None:
    world.recorder._series = Lru(1)
    world.record("A")
    world.record("B")
    world.record("A")
    await until(lambda: world.server.count("POST", "events") == 3)
    for number in range(event_recorder.MAX_QUEUE + 5):
        world.record(f"R{number}")
    assert world.recorder.dropped_count == 5
