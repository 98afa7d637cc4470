"""The reflector over real sockets: its requests, its calls of the sink, and its log."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.reflector import REFUSAL_THRESHOLD, Reflector
from connector_store.kube.resources import CONNECTORS, SECRETS
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import until

DEADLINE = 120.0


class Names:
    """Sink that stores names and records its calls."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.calls: list[str] = []

    def replace(self, objects: tuple[str, ...]) -> None:
        self.names = set(objects)
        self.tell(f"replace {len(objects)}")

    def put(self, obj: str) -> None:
        self.names.add(obj)
        self.tell(f"put {obj}")

    def remove(self, obj: str) -> None:
        self.names.discard(obj)
        self.tell(f"remove {obj}")

    def tell(self, what: str) -> None:
        self.calls.append(what)


def name(raw: RawObject) -> str:
    assert raw["kind"] == "Secret"
    return str(raw["metadata"]["name"])


def secret(which: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": which, "namespace": "a", **more.pop("metadata", {})}, **more}


@asynccontextmanager
async def running(server: FakeApiServer, sink: Names, **options: Any) -> AsyncIterator[Reflector[str]]:
    async with KubeClient(server.configuration) as client:
        reflector = Reflector(client, SECRETS, name, sink, **{"watch_timeout": 30, **options})
        task = asyncio.create_task(reflector.run())
        try:
            yield reflector
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("watch_list", [pytest.param(True, id="initial events"), pytest.param(False, id="pages")])
async def test_mirrors_the_collection(server: FakeApiServer, watch_list: bool) -> None:
    server.watch_list = watch_list
    sink = Names()
    await server.put(SECRETS, secret("one"))
    async with running(server, sink) as reflector:
        async with asyncio.timeout(DEADLINE):
            await reflector.synced.wait()
        assert sink.calls == ["replace 1"]
        await server.put(SECRETS, secret("two"))
        await server.delete(SECRETS, "one", "a")
        await until(lambda: sink.names == {"two"})
    assert sink.calls == ["replace 1", "put two", "remove one"]
    lists = [query for _, _, query in server.requests if "limit" in query]
    assert len(lists) == (0 if watch_list else 1)


async def test_asks_with_its_selectors_in_its_namespace(server: FakeApiServer) -> None:
    sink = Names()
    await server.put(SECRETS, secret("one", type="t"))
    await server.put(SECRETS, secret("other"))
    async with running(server, sink, namespace="a", field_selector="type=t") as reflector:
        async with asyncio.timeout(DEADLINE):
            await reflector.synced.wait()
    assert sink.names == {"one"}
    _, path, query = server.requests[0]
    assert path == "/api/v1/namespaces/a/secrets"
    assert query["allowWatchBookmarks"] == "true"
    assert 22 <= int(query["timeoutSeconds"]) <= 30


async def test_resumes_where_it_was_after_a_broken_stream(server: FakeApiServer) -> None:
    sink, restarts = Names(), list[str]()
    await server.put(SECRETS, secret("one"))
    async with running(server, sink, on_restart=restarts.append):
        await until(lambda: sink.names == {"one"})
        server.drop_streams()
        await server.put(SECRETS, secret("two"))
        await until(lambda: sink.names == {"one", "two"})
    assert sink.calls == ["replace 1", "put two"]
    assert restarts == ["Secret"]


async def test_continues_after_the_servers_timeout_without_a_log_line(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    sink, restarts = Names(), list[str]()
    async with running(server, sink, watch_timeout=1, on_restart=restarts.append):
        await until(lambda: server.count("GET", "secrets") >= 3)
        await server.put(SECRETS, secret("one"))
        await until(lambda: sink.names == {"one"})
    assert (sink.calls, restarts, caplog.messages) == (["replace 0", "put one"], [], [])


async def test_lists_again_after_410(server: FakeApiServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink = Names()
    await server.put(SECRETS, secret("one"))
    await server.put(SECRETS, secret("two"))
    async with running(server, sink):
        await until(lambda: len(sink.names) == 2)
        server.faults.append(lambda request: refusal(503, "", "away"))
        server.drop_streams()
        await server.delete(SECRETS, "one", "a")
        server.compact()
        server.faults.clear()
        await until(lambda: sink.names == {"two"})
    assert sink.calls == ["replace 2", "replace 1"]
    assert any("too old resource version" in each for each in caplog.messages)


async def test_lists_again_after_the_server_went_back(server: FakeApiServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink, restarts = Names(), list[str]()
    await server.put(SECRETS, secret("old"))
    snapshot = server.save()
    await server.put(SECRETS, secret("new"))
    await server.put(SECRETS, secret("old", data={"token": "new"}))
    async with running(server, sink, on_restart=restarts.append):
        await until(lambda: sink.names == {"old", "new"})
        server.restore(snapshot)
        await until(lambda: sink.names == {"old"})
        await until(lambda: any("up to date again" in each for each in caplog.messages))
    assert sink.calls == ["replace 2", "replace 1"]
    assert restarts == ["Secret", "Secret"]
    assert sum("went back from version" in each for each in caplog.messages) == 1


async def test_lists_again_if_the_restored_server_has_passed_the_position(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Names()
    await server.put(SECRETS, secret("one"))
    snapshot = server.save()
    await server.put(SECRETS, secret("two"))
    await server.put(SECRETS, secret("one", data={"token": "new"}))
    async with running(server, sink):
        await until(lambda: sink.calls == ["replace 2"])
        server.restore(snapshot)
        for number in range(5):
            await server.put(CONNECTORS, secret(f"other-{number}"))
        await until(lambda: sink.names == {"one"})
    assert any("went back from version" in each for each in caplog.messages)


async def test_lists_again_if_the_object_that_changed_last_is_gone(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = Names()
    await server.put(SECRETS, secret("one"))
    async with running(server, sink):
        await until(lambda: sink.names == {"one"})
        server.drop_streams()
        await server.delete(SECRETS, "one", "a")
        await until(lambda: sink.names == set())
    assert [record.levelname for record in caplog.records if "is gone" in record.message] == ["INFO"]


async def test_lists_again_if_the_server_does_not_understand_the_position(server: FakeApiServer) -> None:
    sink = Names()
    async with running(server, sink):
        await until(lambda: sink.calls == ["replace 0"])
        server.faults.append(
            lambda request: refusal(400, "BadRequest", "?") if "resourceVersion" in request.query else None
        )
        server.drop_streams()
        await until(lambda: sink.calls == ["replace 0", "replace 0"])


async def test_takes_an_error_event_410_the_same_way(server: FakeApiServer) -> None:
    sink = Names()
    expired = b'{"type":"ERROR","object":{"kind":"Status","code":410,"message":"old"}}\n'
    async with running(server, sink):
        await until(lambda: sink.calls == ["replace 0"])
        server.faults.append(lambda request: web.Response(body=expired) if "resourceVersion" in request.query else None)
        server.drop_streams()
        await until(lambda: sink.calls == ["replace 0", "replace 0"])


async def test_says_a_failure_once_and_when_it_is_over(server: FakeApiServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink = Names()
    server.faults.append(lambda request: refusal(403, "Forbidden", "secrets is forbidden"))
    async with running(server, sink) as reflector:
        await until(lambda: server.count("GET", "secrets") >= 3)
        assert not reflector.synced.is_set()
        server.faults.clear()
        await until(lambda: bool(sink.calls))
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "grant list and watch on secrets" in caplog.messages[0]


async def test_a_refused_watch_counts_as_restarted_and_as_a_refusal_after_some_attempts(server: FakeApiServer) -> None:
    sink, restarts = Names(), list[str]()
    server.faults.append(lambda request: refusal(403, "Forbidden", "secrets is forbidden"))
    async with running(server, sink, on_restart=restarts.append) as reflector:
        await until(lambda: bool(restarts))
        assert reflector.refusal is None
        assert not reflector.synced_or_refused.is_set()
        async with asyncio.timeout(DEADLINE):
            await reflector.synced_or_refused.wait()
        assert reflector.refusal is not None
        assert reflector.refusal.status == 403
        assert not reflector.synced.is_set()
        server.faults.clear()
        await until(lambda: bool(sink.calls))
        assert reflector.refusal is None
    assert restarts == ["Secret"] * len(restarts)
    assert len(restarts) >= REFUSAL_THRESHOLD


async def test_a_position_that_only_yields_error_events_is_given_up(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = Names()
    poisoned = b'{"type":"ERROR","object":{"kind":"Status","code":500,"message":"cannot decode"}}\n'
    async with running(server, sink):
        await until(lambda: sink.calls == ["replace 0"])
        server.faults.append(
            lambda request: web.Response(body=poisoned) if "resourceVersion" in request.query else None
        )
        server.drop_streams()
        await until(lambda: sink.calls == ["replace 0", "replace 0"])
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "INFO"]


async def test_error_events_of_a_busy_server_are_logged_once_and_nothing_is_in_sync_meanwhile(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = Names()
    busy = b'{"type":"ERROR","object":{"kind":"Status","code":429,"message":"busy"}}\n'
    async with running(server, sink) as reflector:
        await until(lambda: sink.calls == ["replace 0"])
        started_at = asyncio.get_running_loop().time()
        request_count = len(server.requests)
        server.faults.append(lambda request: web.Response(body=busy) if request.query.get("watch") else None)
        server.drop_streams()
        await until(lambda: len(server.requests) >= request_count + 4)
        assert reflector.age(started_at + 100) >= 99
        assert sum("up to date" in each for each in caplog.messages) == 0
        assert sum("busy" in each for each in caplog.messages) == 1
        server.faults.clear()
        await server.put(SECRETS, secret("one"))
        await until(lambda: sink.names == {"one"})
        await until(lambda: any("up to date" in each for each in caplog.messages))
    assert sum("up to date" in each for each in caplog.messages) == 1


async def test_the_age_restarts_with_each_bookmark_and_grows_while_the_watch_fails(server: FakeApiServer) -> None:
    sink = Names()
    async with running(server, sink) as reflector:
        await until(lambda: bool(sink.calls))
        age = reflector.age(0.0)
        await server.bookmark(SECRETS)
        await until(lambda: reflector.age(0.0) < age)
        age = reflector.age(0.0)
        server.faults.append(lambda request: refusal(500, "", "away"))
        server.drop_streams()
        request_count = len(server.requests)
        await until(lambda: len(server.requests) >= request_count + 2)
        assert reflector.age(0.0) == age


async def test_changes_alone_come_with_metadata_alone(server: FakeApiServer) -> None:
    sink = Names()
    parsed = list[RawObject]()

    def parse(raw: RawObject) -> str:
        parsed.append(raw)
        return str(raw["metadata"]["name"])

    await server.put(SECRETS, secret("before", data={"token": "c2VjcmV0"}))
    async with KubeClient(server.configuration) as client:
        reflector = Reflector(client, SECRETS, parse, sink, watch_timeout=30, changes_only=True)
        task = asyncio.create_task(reflector.run())
        await until(lambda: sink.calls == ["replace 0"])
        await server.put(SECRETS, secret("new", data={"token": "c2VjcmV0"}))
        await server.delete(SECRETS, "before", "a")
        await until(lambda: sink.calls == ["replace 0", "put new", "remove before"])
        server.compact()
        server.drop_streams()
        await server.put(SECRETS, secret("later"))
        await until(lambda: "put later" in sink.calls or sink.calls.count("replace 0") == 2)
        task.cancel()
    assert [set(each) for each in parsed[:2]] == [{"apiVersion", "kind", "metadata"}] * 2
    assert [query["limit"] for _, _, query in server.requests if "limit" in query][:1] == ["1"]


async def test_a_missing_definition_is_named_and_waited_for(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.unserved.add("connectors")
    sink = Names()
    async with KubeClient(server.configuration) as client:
        reflector = Reflector(client, CONNECTORS, lambda raw: str(raw["kind"]), sink)
        task = asyncio.create_task(reflector.run())
        await until(lambda: bool(caplog.messages))
        server.unserved.clear()
        await until(lambda: bool(sink.calls))
        task.cancel()
    assert "does not serve connectors.connectors.alauda.io (kubectl apply -k deploy/crds)" in caplog.messages[0]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>\n", id="another program's answer"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":{}}}\n', id="an object without a version"),
    ],
)
async def test_an_invalid_list_is_requested_again(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    sink = Names()
    server.faults.append(lambda request: web.Response(body=body))
    async with running(server, sink):
        await until(lambda: server.count("GET", "secrets") >= 2)
        server.faults.clear()
        await until(lambda: bool(sink.calls))
    assert len(caplog.messages) == 1


async def test_after_an_invalid_event_the_position_is_dropped(server: FakeApiServer) -> None:
    sink = Names()
    async with running(server, sink):
        await until(lambda: sink.calls == ["replace 0"])
        server.faults.append(
            lambda request: web.Response(body=b"<html>\n") if "resourceVersion" in request.query else None
        )
        server.drop_streams()
        await until(lambda: sink.calls == ["replace 0", "replace 0"])


async def test_a_watch_that_ends_at_once_is_a_failure_with_a_backoff(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    sink, restarts = Names(), list[str]()
    server.faults.append(lambda request: web.Response() if request.query.get("watch") else None)
    async with running(server, sink, on_restart=restarts.append):
        await until(lambda: server.count("GET", "secrets") >= 3)
        assert len(restarts) >= 2
    assert ["ended the watch early" in each for each in caplog.messages] == [True]


class UnpausedReflector(Reflector[str]):
    """Reflector that records its backoff and does not wait."""

    pauses: list[float]

    @property
    def _backoff(self) -> float:
        self.pauses.append(super()._backoff)
        return 0.0


async def test_after_a_long_watch_the_backoff_restarts(server: FakeApiServer) -> None:
    sink = Names()
    async with KubeClient(server.configuration) as client:
        reflector = UnpausedReflector(client, SECRETS, name, sink, watch_timeout=300)
        reflector.pauses = []
        server.faults.append(lambda request: None if len(reflector.pauses) >= 8 else refusal(500, "", "away"))
        task = asyncio.ensure_future(reflector.run())
        try:
            await until(lambda: sink.calls == ["replace 0"])
            # Each backoff is between half of its bound and the bound.
            assert reflector.pauses[-1] > 2 * reflector.pauses[0]
            assert reflector._opened_at is not None
            reflector._opened_at -= 60
            before = len(reflector.pauses)
            server.drop_streams()
            await until(lambda: len(reflector.pauses) > before)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert reflector.pauses[before] <= 2 * reflector.pauses[0]


async def test_waits_as_long_as_the_server_asks(server: FakeApiServer) -> None:
    sink = Names()
    loop = asyncio.get_running_loop()
    request_times: list[float] = []

    def busy(request: web.Request) -> web.Response | None:
        request_times.append(loop.time())
        return refusal(429, "TooManyRequests", "busy", {"Retry-After": "1"}) if len(request_times) == 1 else None

    server.faults.append(busy)
    async with running(server, sink):
        await until(lambda: bool(sink.calls))
    assert request_times[1] - request_times[0] >= 0.9


async def test_an_optional_kind_that_discovery_does_not_have_has_no_objects(server: FakeApiServer) -> None:
    sink = Names()
    server.unserved.add("secrets")
    discovery = {"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "pods"}]}
    server.faults.append(lambda request: web.json_response(discovery) if request.path == "/apis/v1" else None)
    async with running(server, sink, is_optional=True) as reflector:
        async with asyncio.timeout(DEADLINE):
            await reflector.synced.wait()
        assert sink.calls == ["replace 0"]
        assert reflector.refusal is None


@pytest.mark.parametrize(
    ("status", "discovery"),
    [
        pytest.param(404, {"kind": "APIResourceList", "resources": [{"name": "secrets"}]}, id="discovery has it"),
        pytest.param(404, {"kind": "APIResourceList"}, id="discovery without resources"),
        pytest.param(404, {"kind": "Status"}, id="another answer"),
        pytest.param(404, None, id="discovery fails"),
        pytest.param(403, {"kind": "APIResourceList", "resources": []}, id="403"),
    ],
)
async def test_an_optional_kind_that_is_refused_is_not_taken_for_empty(
    server: FakeApiServer, status: int, discovery: dict[str, Any] | None
) -> None:
    sink = Names()

    def answer(request: web.Request) -> web.Response | None:
        if request.path != "/apis/v1":
            return refusal(status, "", "no")
        return web.json_response(discovery) if discovery is not None else refusal(500, "", "away")

    server.faults.append(answer)
    async with running(server, sink, is_optional=True) as reflector:
        async with asyncio.timeout(DEADLINE):
            await reflector.synced_or_refused.wait()
        assert not reflector.synced.is_set()
        assert reflector.refusal is not None
    assert sink.calls == []
