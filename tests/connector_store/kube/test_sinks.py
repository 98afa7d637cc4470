"""Objects of reflectors arrive in the store under their source, or at a function."""

import asyncio
import logging

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import ConnectorClass, InvalidConnector, Secret
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONFIG_MAPS
from connector_store.kube.sinks import FanOutSink, ObjectSink, StoreSink, make_parser, object_reflector
from connector_store.store import Store, StoreObject
from tests.fakes.api_server import FakeApiServer

KEY = ObjectKey("a", "x")
OBJECTS = [
    pytest.param(Secret(key=KEY, type="t"), "Secret", KEY, id="a Secret"),
    pytest.param(
        InvalidConnector(key=KEY, class_name="k8s", reason="AddressInvalid", message=""), "Connector", KEY, id="one"
    ),
    pytest.param(ConnectorClass(name="x"), "ConnectorClass", "x", id="a class"),
]


@pytest.mark.parametrize(("obj", "kind", "name"), OBJECTS)
def test_an_object_comes_and_goes(obj: StoreObject, kind: str, name: ObjectKey | str) -> None:
    store = Store(expected=["s"])
    sink = StoreSink(store, "s")
    before = store.object_counts[kind]
    sink.replace(())
    assert store.synced
    sink.put(obj)
    assert (store.object_counts[kind], {name for _, name in sink.identities}) == (before + 1, {name})
    sink.remove(obj)
    assert (store.object_counts[kind], sink.identities) == (before, set())
    sink.replace((obj,))
    assert (store.object_counts[kind], {name for _, name in sink.identities}) == (before + 1, {name})


def test_the_built_in_class_outlives_its_object() -> None:
    store = Store()
    sink = StoreSink(store, "s")
    sink.put(ConnectorClass(name="k8s"))
    sink.remove(ConnectorClass(name="k8s"))
    assert store.connector_class("k8s") == K8S


class RecordingSink:
    """Sink that records its calls."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def replace(self, objects: tuple[str, ...]) -> None:
        self.calls.append(objects)

    def put(self, obj: str) -> None:
        self.calls.append(f"+{obj}")

    def remove(self, obj: str) -> None:
        self.calls.append(f"-{obj}")


def test_consumers_of_one_watch_get_what_they_can_parse() -> None:
    one, two = RecordingSink(), RecordingSink()
    fork = FanOutSink((lambda raw: raw.get("a"), one), (lambda raw: raw.get("b"), two))
    assert fork.parse({"c": "x"}) is None
    parsed = [fork.parse(raw) for raw in ({"a": "x"}, {"b": "y"}, {"a": "x2", "b": "y2"})]
    objects = tuple(each for each in parsed if each is not None)
    fork.replace(objects)
    for each in objects:
        fork.put(each)
        fork.remove(each)
    assert one.calls == [("x", "x2"), "+x", "-x", "+x2", "-x2"]
    assert two.calls == [("y", "y2"), "+y", "-y", "+y2", "-y2"]


def test_a_single_object_is_reported_with_its_changes() -> None:
    calls: list[RawObject | None] = []
    sink = ObjectSink(calls.append)
    sink.replace(())
    sink.put({"a": 1})
    sink.remove({"a": 1})
    sink.replace(({"a": 2},))
    assert calls == [None, {"a": 1}, None, {"a": 2}]


async def test_a_reflector_of_one_object_asks_for_its_name() -> None:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        reflector = object_reflector(client, CONFIG_MAPS, KEY, lambda raw: None)
        task = asyncio.create_task(reflector.run())
        async with asyncio.timeout(120):
            await reflector.synced.wait()
        task.cancel()
        _, path, query = server.requests[0]
    assert (path, query["fieldSelector"]) == ("/api/v1/namespaces/a/configmaps", "metadata.name=x")


def test_an_object_without_an_identity_is_skipped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    parse = make_parser("connectors-system")
    assert parse({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "a"}}) == Secret(
        key=KEY, type="Opaque"
    )
    assert parse({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}) is None
    assert "skipped" in caplog.text
