"""Documents about live connections, Connectors and refusals, without a server: fields, order, bounds and pauses."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final

import jwt
import pytest

from addons.access.live_connections import LiveAccess, LiveConnections
from addons.records.recent_use import RecentUse
from addons.records.session_row import MAX_TEXT, SessionRow
from addons.sessions.state import BATCH_SIZE, MAX_CALLERS, Item, State
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET, BearerToken
from connector_store.domain.objects.models import (
    Address,
    AuthType,
    Connector,
    ConnectorClass,
    InvalidConnector,
    Secret,
)
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.store import Store, StoreObject
from tests.addons.access.test_live_connections import FakeParts
from tests.addons.records.test_recent_use import record
from tests.fakes.clock import FakeClock

KEY: Final = ObjectKey("team-a", "k8s")
CONNECTOR: Final = Connector(key=KEY, class_name="k8s", address=Address(host="h", port=6443), secret_name="s")
OTHER_CLASS: Final = ConnectorClass(name="k8s", auth_types=(AuthType(name="other", secret_type="example.com/other"),))
ROW: Final = SessionRow(
    id="1", since=1.0, kind="exec", caller="ci:build", connector=KEY, source_ip="::1", verb="create",
    resource="pods/exec", namespace="web", name="b", command="", role="",
)  # fmt: skip


class FakeConnection:
    """Live connection whose row has `number`, or that has no current request."""

    key: ObjectKey | None = KEY
    live_access: LiveAccess | None = None
    target_ip: str | None = None

    def __init__(self, number: int | None) -> None:
        self.number = number

    def session_row(self, *, commands: bool) -> SessionRow | None:
        if self.number is None:
            return None
        return replace(ROW, id=str(self.number), command="sh -c ls" if commands else "")

    def close(self, reason: str) -> None:
        raise AssertionError(reason)

    def close_if_client_gone(self) -> None:
        raise AssertionError


class World:
    """Store, live connections and recent use of one proxy, and its state."""

    def __init__(self) -> None:
        self.clock = FakeClock(600_000.0)
        self.store = Store()
        self.live_connections = LiveConnections(FakeParts(), FakeParts(), recheck=30.0, cut_expired=False)
        self.recent_use = RecentUse(now=self.clock)

    def state(self, *, commands: bool = False) -> State:
        return State(lambda: (self.store, self.live_connections), self.recent_use, commands=commands)

    def replace(self, kind: str, *objects: StoreObject) -> None:
        self.store.replace(kind, objects)

    async def connector(self) -> dict[str, Any]:
        (document,) = (await documents(self.state().connectors())).values()
        return document


@pytest.fixture
def world() -> World:
    created = World()
    created.replace("connectors", CONNECTOR)
    created.replace("secrets", Secret(key=ObjectKey("team-a", "s"), type=BEARER_TOKEN_SECRET,
                                      credential=BearerToken("one")))  # fmt: skip
    return created


def entry(cluster_role: str) -> RoleEntry:
    return RoleEntry(cluster_role=cluster_role)


async def documents(items: AsyncIterator[Item]) -> dict[str, dict[str, Any]]:
    return {key: json.loads(text) async for key, text in items}


@pytest.mark.parametrize(("commands", "command"), [(True, "sh -c ls"), (False, "")])
async def test_connections_with_a_request_are_sessions(world: World, commands: bool, command: str) -> None:
    for number in (1, None, 2):
        world.live_connections.add(FakeConnection(number))
    sessions = await documents(world.state(commands=commands).sessions())
    assert sessions == {
        f"session/{number}": replace(ROW, id=str(number), command=command).document() for number in (1, 2)
    }


async def test_a_state_without_anything_is_empty() -> None:
    state = World().state()
    assert [await documents(each()) for each in (state.sessions, state.connectors, state.refusals)] == [{}, {}, {}]


async def test_a_usable_connector_has_each_field(world: World) -> None:
    world.recent_use.record(record(connector=KEY))
    world.recent_use.record(record(connector=KEY, status=503))
    assert await documents(world.state().connectors()) == {
        "connector/team-a/k8s": {
            "connector": "team-a/k8s",
            "address": "https://h:6443",
            "usable": True,
            "reason": "",
            "message": "",
            "expires": None,
            "permissions": "everything that the credential can do",
            "callerCount": 1,
            "callers": [{"caller": "ci:build", "lastUsed": world.clock.now, "requests": 2, "errors": 1,
                         "lastError": "the target responded with status 503"}],
            "requestsPerMinute": 2.0,
            "errorsPerMinute": 1.0,
        }
    }  # fmt: skip


@pytest.mark.parametrize(
    ("permissions", "text"),
    [
        pytest.param(None, "everything that the credential can do", id="no permissions"),
        pytest.param(Permissions(allow=()), "allow nothing", id="an empty list"),
        pytest.param(Permissions(allow=(entry("view"), entry("edit"))), "allow view, edit", id="roles"),
        pytest.param(Permissions(allow=None, deny=(entry("secrets"),)),
                     "everything that the credential can do; deny secrets", id="a denied role"),
        pytest.param(Permissions(allow=(entry("view"),), deny=(entry("secrets"), entry("nodes"))),
                     "allow view; deny secrets, nodes", id="allowed and denied roles"),
        pytest.param(Permissions(allow=tuple(entry(str(number) * 60) for number in range(9))),
                     "allow " + ", ".join(str(number) * 60 for number in range(9))[: MAX_TEXT - 9] + "...",
                     id="a long list is cut"),
    ],
)  # fmt: skip
async def test_permissions_are_named_by_their_roles(world: World, permissions: Permissions | None, text: str) -> None:
    world.replace("connectors", replace(CONNECTOR, permissions=permissions))
    assert (await world.connector())["permissions"] == text


@pytest.mark.parametrize(
    ("kind", "objects", "reason"),
    [
        pytest.param("secrets", (), "SecretNotFound", id="without its Secret"),
        pytest.param("connectors", (InvalidConnector(key=KEY, class_name="k8s", reason="AddressInvalid",
                                                     message="m" * 9999),),
                     "AddressInvalid", id="a Connector that cannot be parsed"),
        pytest.param("connectorclasses", (OTHER_CLASS,), "NotOurs",
                     id="a class of another implementation"),
    ],
)  # fmt: skip
async def test_an_unusable_connector_has_a_reason(
    world: World, kind: str, objects: tuple[StoreObject, ...], reason: str
) -> None:
    world.replace(kind, *objects)
    document = await world.connector()
    assert (document["usable"], document["reason"], document["expires"]) == (False, reason, None)
    assert 0 < len(document["message"]) <= MAX_TEXT


@pytest.mark.parametrize(
    ("expires_at", "text"),
    [
        pytest.param(1_800_000_000, "2027-01-15T08:00:00Z", id="a usual time"),
        pytest.param(0, "1970-01-01T00:00:00Z", id="the epoch"),
        pytest.param(10**18, None, id="a time after the year 9999 is unknown"),
    ],
)
async def test_the_expiry_is_that_of_the_credential(world: World, expires_at: int, text: str | None) -> None:
    token = jwt.encode({"exp": expires_at}, "x" * 32, algorithm="HS256")
    world.replace("secrets", Secret(key=ObjectKey("team-a", "s"), type=BEARER_TOKEN_SECRET,
                                    credential=BearerToken(token)))  # fmt: skip
    assert (await world.connector())["expires"] == text


async def test_callers_are_the_newest_and_all_are_counted(world: World) -> None:
    for number in range(MAX_CALLERS + 5):
        world.clock.now += 0.001
        world.recent_use.record(record(connector=KEY, identity=Identity(user=f"u{number}")))
        world.recent_use.refusals()
    world.recent_use.record(record(connector=ObjectKey("other", "k8s")))
    document = await world.connector()
    assert document["callerCount"] == MAX_CALLERS + 5
    assert [each["caller"] for each in document["callers"]] == [
        f"u{number}" for number in range(MAX_CALLERS + 4, 4, -1)
    ]
    assert document["requestsPerMinute"] == MAX_CALLERS + 5, "callers beyond the list count"


async def test_connectors_are_sorted_by_name(world: World) -> None:
    keys = [ObjectKey("b", "a"), ObjectKey("a", "z"), ObjectKey("a", "b")]
    world.replace("connectors", *(replace(CONNECTOR, key=key) for key in keys))
    assert [*await documents(world.state().connectors())] == [f"connector/{key}" for key in sorted(keys)]


async def test_refusals_have_their_number_and_the_newest_is_first(world: World) -> None:
    for message in ("old", "new"):
        world.recent_use.record(record(status=403, cause="not_allowed", message=message))
    refusals = await documents(world.state().refusals())
    assert [(key, each["message"]) for key, each in refusals.items()] == [("refusal/2", "new"), ("refusal/1", "old")]


async def test_the_current_store_is_used_after_it_is_replaced(world: World) -> None:
    state = world.state()
    world.store = Store()
    assert await documents(state.connectors()) == {}


def add_connections(world: World, count: int) -> None:
    for number in range(count):
        world.live_connections.add(FakeConnection(number))


def add_connectors(world: World, count: int) -> None:
    world.replace("connectors", *(replace(CONNECTOR, key=ObjectKey("a", f"c{number}")) for number in range(count)))


def add_uses(world: World, count: int) -> None:
    for number in range(count):
        world.recent_use.record(record(connector=KEY, identity=Identity(user=f"u{number}")))


@pytest.mark.parametrize(
    ("add", "name"),
    [
        pytest.param(add_connections, "sessions", id="connections"),
        pytest.param(add_connectors, "connectors", id="Connectors"),
        pytest.param(add_uses, "connectors", id="callers of one Connector"),
    ],
)
async def test_other_tasks_run_after_each_batch(world: World, add: Callable[[World, int], None], name: str) -> None:
    add(world, 3 * BATCH_SIZE)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count_turns())
    assert await documents(getattr(world.state(), name)())
    counting.cancel()
    assert turns >= 3


async def test_an_object_that_is_removed_meanwhile_does_no_harm(world: World) -> None:
    add_connectors(world, 2 * BATCH_SIZE)
    items = world.state().connectors()
    first, _ = await anext(items)
    world.replace("connectors")
    rest = await documents(items)
    assert first not in rest
    assert len(rest) == 2 * BATCH_SIZE - 1
    assert {each["usable"] for each in list(rest.values())[BATCH_SIZE:]} == {False}
