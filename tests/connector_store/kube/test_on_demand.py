"""Objects are read on request and after each change, and no other objects are read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.on_demand import OnDemandCache
from connector_store.kube.resources import CONNECTORS
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import PATIENCE, until

KEY = ObjectKey("team-a", "k8s")
OTHER = ObjectKey("team-b", "k8s")
UNUSED_TIMEOUT = 900.0
Objects = dict[ObjectKey, RawObject | None]


def raw(key: ObjectKey = KEY, generation: int = 1, **spec: str) -> dict[str, Any]:
    return {"metadata": {"name": key.name, "namespace": key.namespace, "generation": generation}, "spec": spec}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as server:
        await server.put(CONNECTORS, raw(at="first"))
        await server.put(CONNECTORS, raw(OTHER))
        yield server


@asynccontextmanager
async def running(
    server: FakeApiServer, objects: Objects, *, namespaces: tuple[str | None, ...] = (None,), max_entries: int = 100
) -> AsyncIterator[OnDemandCache]:
    async with KubeClient(server.configuration) as client:
        cache = OnDemandCache(
            client,
            CONNECTORS,
            objects.__setitem__,
            read_jitter=0.01,
            max_entries=max_entries,
            unused_timeout=UNUSED_TIMEOUT,
        )
        watches = [cache.make_watch(namespace, watch_timeout=30) for namespace in namespaces]
        tasks = [asyncio.ensure_future(cache.run()), *(asyncio.ensure_future(watch.run()) for watch in watches)]
        try:
            yield cache
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def load(cache: OnDemandCache, *keys: ObjectKey) -> None:
    async with asyncio.timeout(PATIENCE):
        await cache.load(keys)


def spec(objects: Objects, key: ObjectKey = KEY) -> object:
    raw = objects.get(key)
    return raw["spec"] if raw is not None else None


async def test_an_object_is_read_on_request_and_after_each_change(server: FakeApiServer) -> None:
    objects: Objects = {}
    async with running(server, objects) as cache:
        await load(cache, KEY)
        assert spec(objects) == {"at": "first"}
        assert OTHER not in objects
        await server.put(CONNECTORS, raw(generation=2, at="second"))
        await until(lambda: spec(objects) == {"at": "second"})
        await server.delete(CONNECTORS, KEY.name, KEY.namespace)
        await until(lambda: objects[KEY] is None)
        await server.put(CONNECTORS, raw(at="again"))
        await until(lambda: spec(objects) == {"at": "again"})


async def test_an_absent_object_is_reported_and_read_when_it_is_created(server: FakeApiServer) -> None:
    objects: Objects = {}
    absent = ObjectKey("team-a", "absent")
    async with running(server, objects) as cache:
        await load(cache, absent)
        assert objects == {absent: None}
        await server.put(CONNECTORS, raw(absent))
        await until(lambda: objects[absent] is not None)


async def test_a_change_during_a_broken_watch_is_read(server: FakeApiServer) -> None:
    objects: Objects = {}
    async with running(server, objects) as cache:
        await load(cache, KEY)
        server.faults.append(lambda request: refusal(503, "ServiceUnavailable", "no"))
        server.drop_streams()
        await server.put(CONNECTORS, raw(generation=2, at="meanwhile"))
        server.compact()
        server.faults.clear()
        await until(lambda: spec(objects) == {"at": "meanwhile"})


async def test_a_failed_read_is_tried_again(server: FakeApiServer) -> None:
    objects: Objects = {}
    async with running(server, objects) as cache:
        await load(cache, OTHER)
        failures: list[str] = []

        def once(request: object) -> object:
            if not failures:
                failures.append("")
                return refusal(500, "InternalError", "no")
            return None

        server.faults.append(once)  # type: ignore[arg-type]  # accepts every request
        await load(cache, KEY)
        assert failures
        assert spec(objects) == {"at": "first"}


async def test_a_failed_read_does_not_block_others(server: FakeApiServer) -> None:
    objects: Objects = {}
    own = CONNECTORS.path(KEY.namespace)
    server.faults.append(lambda request: refusal(500, "InternalError", "no") if request.path == own else None)
    async with running(server, objects) as cache:
        both = asyncio.ensure_future(cache.load([KEY, OTHER]))
        await until(lambda: OTHER in objects)
        assert not both.done()
        server.faults.clear()
        await asyncio.wait_for(both, PATIENCE)
        assert KEY in objects


async def test_the_least_recently_used_object_is_evicted(server: FakeApiServer) -> None:
    objects: Objects = {}
    absent = ObjectKey("team-a", "absent")
    async with running(server, objects, max_entries=2) as cache:
        await load(cache, KEY, OTHER)
        cache.touch(KEY)
        await load(cache, absent)
        assert len(cache) == 2
        assert objects[OTHER] is None
        assert objects[KEY] is not None


async def test_unused_objects_are_evicted(server: FakeApiServer) -> None:
    objects: Objects = {}
    async with running(server, objects) as cache:
        await load(cache, KEY, OTHER)
        cache._entries[OTHER].used_at -= UNUSED_TIMEOUT + 1
        cache._entries.move_to_end(OTHER, last=False)
        cache.evict_unused()
        assert len(cache) == 1
        assert objects[OTHER] is None
        await load(cache, OTHER)
        assert objects[OTHER] is not None


async def test_only_metadata_of_other_objects_is_watched(server: FakeApiServer) -> None:
    objects: Objects = {}
    async with running(server, objects) as cache:
        await load(cache, KEY)
    everywhere = [query for _, path, query in server.requests if path == CONNECTORS.path()]
    assert [query.get("limit") for query in everywhere if "watch" not in query] == ["1"]
    assert not any("sendInitialEvents" in query for query in everywhere)


async def test_a_released_object_is_not_read_again(server: FakeApiServer) -> None:
    objects: Objects = {}
    async with running(server, objects) as cache:
        await load(cache, KEY, OTHER)
        cache.release(KEY)
        await server.put(CONNECTORS, raw(generation=2, at="second"))
        await server.put(CONNECTORS, raw(OTHER, generation=2, at="second"))
        await until(lambda: spec(objects, OTHER) == {"at": "second"})
    assert spec(objects) == {"at": "first"}


async def test_objects_of_a_namespace_that_may_not_be_watched_are_not_read(server: FakeApiServer) -> None:
    objects: Objects = {}
    own = CONNECTORS.path(KEY.namespace)
    server.faults.append(lambda request: refusal(403, "Forbidden", "no") if request.path == own else None)
    async with running(server, objects, namespaces=(KEY.namespace, OTHER.namespace)) as cache:
        both = asyncio.ensure_future(cache.load([KEY, OTHER]))
        await until(lambda: OTHER in objects)
        assert not any("fieldSelector" in query for _, path, query in server.requests if path == own)
        server.faults.clear()
        await asyncio.wait_for(both, PATIENCE)
