"""What volumes name is read when it is asked for and when it changes, and nothing else is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connector_csi import on_demand_cache
from connector_csi.on_demand_cache import UNUSED_TIMEOUT, OnDemandCache
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONNECTORS
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import PATIENCE, until

KEY = ObjectKey("team-a", "k8s")
OTHER = ObjectKey("team-b", "k8s")
Taken = dict[ObjectKey, RawObject | None]


def raw(key: ObjectKey = KEY, generation: int = 1, **spec: str) -> dict[str, Any]:
    return {"metadata": {"name": key.name, "namespace": key.namespace, "generation": generation}, "spec": spec}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as server:
        await server.put(CONNECTORS, raw(at="first"))
        await server.put(CONNECTORS, raw(OTHER))
        yield server


@asynccontextmanager
async def following(server: FakeApiServer, taken: Taken) -> AsyncIterator[OnDemandCache]:
    async with KubeClient(server.configuration) as client:
        found = OnDemandCache(client, CONNECTORS, taken.__setitem__, watch_timeout=30, read_jitter=0.01)
        task = asyncio.ensure_future(found.run())
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def know(found: OnDemandCache, *keys: ObjectKey) -> None:
    async with asyncio.timeout(PATIENCE):
        await found.load(keys)


def spec(taken: Taken, key: ObjectKey = KEY) -> object:
    found = taken.get(key)
    return found["spec"] if found is not None else None


async def test_it_is_read_when_it_is_asked_for_and_whenever_it_changes(server: FakeApiServer) -> None:
    taken: Taken = {}
    async with following(server, taken) as found:
        await know(found, KEY)
        assert spec(taken) == {"at": "first"}
        assert OTHER not in taken
        await server.put(CONNECTORS, raw(generation=2, at="second"))
        await until(lambda: spec(taken) == {"at": "second"})
        await server.delete(CONNECTORS, KEY.name, KEY.namespace)
        await until(lambda: taken[KEY] is None)
        await server.put(CONNECTORS, raw(at="again"))
        await until(lambda: spec(taken) == {"at": "again"})


async def test_what_is_absent_is_known_to_be_and_comes_when_it_is_made(server: FakeApiServer) -> None:
    taken: Taken = {}
    absent = ObjectKey("team-a", "absent")
    async with following(server, taken) as found:
        await know(found, absent)
        assert taken == {absent: None}
        await server.put(CONNECTORS, raw(absent))
        await until(lambda: taken[absent] is not None)


async def test_what_changed_while_the_watch_was_broken_is_read(server: FakeApiServer) -> None:
    taken: Taken = {}
    async with following(server, taken) as found:
        await know(found, KEY)
        server.faults.append(lambda request: refusal(503, "ServiceUnavailable", "no"))
        server.drop_streams()
        await server.put(CONNECTORS, raw(generation=2, at="meanwhile"))
        server.compact()
        server.faults.clear()
        await until(lambda: spec(taken) == {"at": "meanwhile"})


async def test_what_cannot_be_read_is_tried_again(server: FakeApiServer) -> None:
    taken: Taken = {}
    async with following(server, taken) as found:
        await asyncio.wait_for(found.watch.synced.wait(), PATIENCE)
        refused: list[str] = []

        def once(request: object) -> object:
            if not refused:
                refused.append("")
                return refusal(500, "InternalError", "no")
            return None

        server.faults.append(once)  # type: ignore[arg-type]  # of every request
        await know(found, KEY)
        assert refused
        assert spec(taken) == {"at": "first"}


async def test_one_that_cannot_be_read_holds_no_other_up(server: FakeApiServer) -> None:
    taken: Taken = {}
    own = CONNECTORS.path(KEY.namespace)
    server.faults.append(lambda request: refusal(500, "InternalError", "no") if request.path == own else None)
    async with following(server, taken) as found:
        both = asyncio.ensure_future(found.load([KEY, OTHER]))
        await until(lambda: OTHER in taken)
        assert not both.done()
        server.faults.clear()
        await asyncio.wait_for(both, PATIENCE)
        assert KEY in taken


async def test_its_number_is_bounded_and_the_one_that_was_used_last_stays(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_demand_cache, "MAX_ENTRIES", 2)
    taken: Taken = {}
    absent = ObjectKey("team-a", "absent")
    async with following(server, taken) as found:
        await know(found, KEY, OTHER)
        found.touch(KEY)
        await know(found, absent)
        assert len(found) == 2
        assert taken[OTHER] is None
        assert taken[KEY] is not None


async def test_what_nobody_uses_is_forgotten(server: FakeApiServer) -> None:
    taken: Taken = {}
    async with following(server, taken) as found:
        await know(found, KEY, OTHER)
        found._entries[OTHER].used_at -= UNUSED_TIMEOUT + 1
        found._entries.move_to_end(OTHER, last=False)
        found.evict_unused()
        assert len(found) == 1
        assert taken[OTHER] is None
        await know(found, OTHER)
        assert taken[OTHER] is not None


async def test_of_others_metadata_alone_is_watched_and_nothing_is_listed(server: FakeApiServer) -> None:
    taken: Taken = {}
    async with following(server, taken) as found:
        await know(found, KEY)
    everywhere = [query for _, path, query in server.requests if path == CONNECTORS.path()]
    assert [query.get("limit") for query in everywhere if "watch" not in query] == ["1"]
    assert not any("sendInitialEvents" in query for query in everywhere)
