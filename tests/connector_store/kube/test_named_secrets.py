"""Which Secrets are read one by one, when they are read again, and that none delays another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.credential_kinds import SECRET_TYPES
from connector_store.domain.objects.models import Address, AuthType, Connector, ConnectorClass, InvalidConnector, Secret
from connector_store.kube import work_queue
from connector_store.kube.client import KubeClient
from connector_store.kube.named_secrets import NamedSecrets
from connector_store.kube.on_demand import ObjectVersion, OnDemandCache
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import SECRETS
from connector_store.kube.sinks import make_parser
from connector_store.store import Store
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import until


@pytest.fixture(autouse=True)
def asked_soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "INITIAL_BACKOFF", 0.02)


BEARER = next(iter(SECRET_TYPES))
"""A type that another watch covers."""


def connector(
    name: str, secret: str | None = None, ca: str | None = None, cls: str = "k8s", namespace: str = "a"
) -> Connector:
    address = Address(host="h", port=443)
    key = ObjectKey(namespace, name)
    return Connector(key=key, class_name=cls, address=address, secret_name=secret, ca_secret_name=ca)


def opaque(name: str, namespace: str = "a", kind: str = "Opaque") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "type": kind}


class World:
    def __init__(self, server: FakeApiServer) -> None:
        self.server = server
        self.store = Store()
        self.watched_keys: set[ObjectKey] = set()
        self.read_keys: list[ObjectKey] = []
        self.is_watched_count = 0

    def is_watched(self, key: ObjectKey) -> bool:
        self.is_watched_count += 1
        return key in self.watched_keys

    @asynccontextmanager
    async def reading(self, *, by_namespace: bool = False) -> AsyncIterator[NamedSecrets]:
        async with KubeClient(self.server.configuration) as client:

            def make_watch(cache: OnDemandCache, scope: str | None) -> Reflector[ObjectVersion]:
                return cache.make_watch(scope, field_selector=f"type!={BEARER}", watch_timeout=30)

            reader = NamedSecrets(
                client,
                self.store,
                make_parser("connectors-system"),
                self.is_watched,
                make_watch,
                scope_of=(lambda key: key.namespace) if by_namespace else lambda key: None,
                debounce=0,
                on_secret_read=self.read_keys.append,
            )
            task = asyncio.create_task(reader.run())
            try:
                yield reader
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def read(self) -> list[str]:
        """Return the names of the Secrets that were read, in order."""
        fields = (query.get("fieldSelector", "") for _, _, query in self.server.requests)
        return [field.removeprefix("metadata.name=") for field in fields if field.startswith("metadata.name=")]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server:
        yield World(server)


def kind_of(world: World, name: str) -> str | None:
    secret = world.store.secret(ObjectKey("a", name))
    return secret.type if secret is not None else None


async def test_a_secret_is_stored_and_updated_while_a_connector_names_it(world: World) -> None:
    await world.server.put(SECRETS, opaque("ca"))
    world.store.put("c", connector("one", secret="s", ca="ca"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
        assert kind_of(world, "ca") == "Opaque"
        assert kind_of(world, "s") is None
        assert reader.has_read(ObjectKey("a", "s"))
        assert set(world.read_keys) == {ObjectKey("a", "s"), ObjectKey("a", "ca")}
        await world.server.put(SECRETS, opaque("s", kind="late"))
        await until(lambda: kind_of(world, "s") == "late")
        await world.server.delete(SECRETS, "ca", "a")
        await until(lambda: kind_of(world, "ca") is None)
        world.store.remove("c", Connector, ObjectKey("a", "one"))
        await until(lambda: kind_of(world, "s") is None)
        assert not reader.has_read(ObjectKey("a", "s"))


async def test_changes_of_other_secrets_cause_no_read(world: World) -> None:
    world.store.put("c", connector("one", secret="s"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
        await world.server.put(SECRETS, opaque("foreign"))
        await world.server.put(SECRETS, opaque("s"))
        await until(lambda: kind_of(world, "s") == "Opaque")
    assert set(world.read()) == {"s"}


async def test_no_secret_is_left_out_however_many_there_are_and_however_many_names_lead_nowhere(world: World) -> None:
    for number in range(150):
        await world.server.put(SECRETS, opaque(f"ca-{number}"))
        world.store.put("c", connector(f"broken-{number}", secret=f"aaa-{number}", ca=f"ca-{number}"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
        assert all(kind_of(world, f"ca-{number}") == "Opaque" for number in range(150))
    watches = [path for _, path, query in world.server.requests if query.get("watch")]
    assert len(watches) <= 1


async def test_nothing_is_read_without_a_named_secret(world: World) -> None:
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
    assert world.server.requests == []


async def test_a_secret_of_another_watch_is_not_stored_twice(world: World) -> None:
    await world.server.put(SECRETS, opaque("s"))
    world.store.put("c", connector("one", secret="s"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
        key = ObjectKey("a", "s")
        world.watched_keys.add(key)
        world.store.put("typed", Secret(key=key, type="typed"))
        await until(lambda: not reader.has_read(key))
        assert kind_of(world, "s") == "typed"


async def test_a_deleted_secret_of_another_watch_is_not_kept(world: World) -> None:
    key, secret = ObjectKey("a", "s"), opaque("s", kind=BEARER)
    await world.server.put(SECRETS, secret)
    world.store.put("c", connector("one", secret="s"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
        obj = world.store.secret(key)
        assert isinstance(obj, Secret)
        world.watched_keys.add(key)
        world.store.put("typed", obj)
        await world.server.delete(SECRETS, "s", "a")
        world.watched_keys.remove(key)
        world.store.remove("typed", Secret, key)
        await until(lambda: kind_of(world, "s") is None)


async def test_a_change_of_one_connector_does_not_cost_by_all(world: World) -> None:
    for number in range(200):
        world.store.put("c", connector(f"other-{number}", secret=f"s-{number}"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
        world.is_watched_count = 0
        world.store.put("c", connector("other-0", secret="new"))
        await until(lambda: "new" in world.read())
        assert not reader.has_read(ObjectKey("a", "s-0"))
    assert world.is_watched_count <= 3


async def test_a_secret_of_two_connectors_is_kept_until_both_are_gone(world: World) -> None:
    await world.server.put(SECRETS, opaque("s"))
    for name in ("one", "two"):
        world.store.put("c", connector(name, secret="s"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
        world.store.remove("c", Connector, ObjectKey("a", "one"))
        world.store.put("c", connector("three", secret="t"))
        await until(lambda: reader.has_read(ObjectKey("a", "t")))
        assert kind_of(world, "s") == "Opaque"
        world.store.remove("c", Connector, ObjectKey("a", "two"))
        await until(lambda: kind_of(world, "s") is None)


async def test_unsupported_and_invalid_connectors_require_no_secret(world: World) -> None:
    world.store.put("k", ConnectorClass(name="git", auth_types=(AuthType(name="basic", secret_type="basic"),)))
    world.store.put("c", connector("theirs", secret="s", cls="git"))
    world.store.put(
        "c", InvalidConnector(key=ObjectKey("a", "bad"), class_name="k8s", reason="AddressInvalid", message="")
    )
    world.store.put("c", connector("ours", secret="t"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
    assert world.read() == ["t"]


async def test_secrets_are_read_again_after_the_watch_was_lost(world: World) -> None:
    await world.server.put(SECRETS, opaque("s"))
    world.store.put("c", connector("one", secret="s"))
    async with world.reading() as reader:
        await until(reader.initial_reads_done.is_set)
        world.server.faults.append(lambda request: refusal(503, "", "away"))
        world.server.drop_streams()
        await world.server.delete(SECRETS, "s", "a")
        await world.server.put(SECRETS, opaque("s", kind="new"))
        world.server.compact()
        world.server.faults.clear()
        await until(lambda: kind_of(world, "s") == "new")


async def test_a_failed_read_is_retried_and_counts_as_not_read(world: World) -> None:
    await world.server.put(SECRETS, opaque("s"))
    world.store.put("c", connector("one", secret="s", ca="ca"))

    def fault(request: web.Request) -> web.Response | None:
        return refusal(500, "", "broken") if request.query.get("fieldSelector") == "metadata.name=s" else None

    world.server.faults.append(fault)
    async with world.reading() as reader:
        await until(lambda: world.read().count("s") >= 2 and reader.has_read(ObjectKey("a", "ca")))
        assert not reader.has_read(ObjectKey("a", "s"))
        assert not reader.initial_reads_done.is_set()
        world.server.faults.clear()
        await until(reader.initial_reads_done.is_set)
        assert kind_of(world, "s") == "Opaque"


async def test_a_refused_namespace_does_not_delay_others(world: World) -> None:
    await world.server.put(SECRETS, opaque("s"))
    await world.server.put(SECRETS, opaque("s", "b"))
    world.store.put("c", connector("one", secret="s"))
    for number in range(20):
        world.store.put("c", connector(f"theirs-{number}", secret=f"s{number or ''}", namespace="b"))

    def fault(request: web.Request) -> web.Response | None:
        return refusal(403, "Forbidden", "no") if "/namespaces/b/" in request.path else None

    world.server.faults.append(fault)
    async with world.reading(by_namespace=True) as reader:
        await until(reader.initial_reads_done.is_set)
        assert kind_of(world, "s") == "Opaque"
        assert not reader.has_read(ObjectKey("b", "s"))
        world.server.faults.clear()
        await until(lambda: world.store.secret(ObjectKey("b", "s")) is not None)
