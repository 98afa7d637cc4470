"""Live connections are closed when their Connector changes or their caller loses the right."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any, Literal

import pytest

from addons.access.entitlements import Entitlements
from addons.access.live_connections import BATCH_SIZE, END_INTERVAL, LiveAccess, LiveConnections
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.grants.access_grant import Moment
from connector_store.domain.grants.access_index import AccessClock
from connector_store.domain.objects.access_objects import AccessApproval, AccessLock, AccessPolicy, AccessRequest
from connector_store.domain.objects.models import Address, Unusable
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.rbac import BoundRole, PolicyRule
from connector_store.domain.permissions.request_attributes import RequestAttributes
from connector_store.domain.permissions.restrictions import Restrictions
from connector_store.store import Store, StoreObject
from tests.addons.relay.test_inject import target
from tests.connector_store.domain.grants.access_objects import APPROVAL, CONNECTOR, JANE, LOCK, NOW, POLICY, REQUEST
from tests.fakes.virtual_time import run_in_virtual_time
from tests.fakes.waiting import until

KEY = ObjectKey("n", "a")
TARGET = target("t")
LIST_PODS = RequestAttributes(info=parse_request("GET", "/api/v1/pods", ""))


def allow(resource: str) -> PermissionEvaluator:
    rule = PolicyRule(verbs=("list",), api_groups=("",), resources=(resource,))
    return PermissionEvaluator((BoundRole(label="role", rules=(rule,)),), ())


class FakeConnection:
    def __init__(
        self,
        token: str = "t",
        expires: float | None = None,
        *,
        idle: bool = False,
        valid_until: float = 0.0,
        ends_with_token: bool = False,
    ) -> None:
        self.key = KEY
        granted = Granted(
            identity=Identity(user="u"),
            token_expires_at=expires,
            valid_until=valid_until,
            ends_with_token=ends_with_token,
        )
        self.live_access = None if idle else LiveAccess(TARGET, token, granted, lambda: LIST_PODS)
        self.reasons: list[str] = []
        self.check_count = 0
        self.target_ip: str | None = None

    def close(self, reason: str) -> None:
        self.reasons.append(reason)

    def close_if_client_gone(self) -> None:
        self.check_count += 1

    def session_row(self, *, commands: bool) -> None:
        return None


class FakeParts:
    """Store and access check."""

    revocation_count = 0

    def __init__(self) -> None:
        self.resolution: Resolution = TARGET
        self.result: AccessResult = Granted(identity=Identity(user="u"))
        self.use_result: Refused | None = None
        self.rechecks: list[str] = []

    def get(self, key: ObjectKey) -> Resolution:
        return self.resolution

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        raise NotImplementedError

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        raise NotImplementedError

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        self.rechecks.append(token)
        return self.result

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        return self.use_result or (True if isinstance(self.result, Granted) else self.result)


async def recheck_all(running: LiveConnections) -> None:
    await running.update_callers()
    async with asyncio.TaskGroup() as tasks:
        await running._rechecks.start_due(tasks, running._checks())


async def test_the_age_of_the_oldest_check_grows_while_no_check_is_available() -> None:
    parts, now = FakeParts(), [100.0]
    running = live_connections(parts, FakeConnection(), clock=lambda: now[0])
    assert running.oldest_check_age == 0
    await recheck_all(running)
    now[0] = 140.0
    assert running.oldest_check_age == 40
    parts.result = Unavailable(reason="")
    await recheck_all(running)
    assert running.oldest_check_age == 40
    now[0] = 180.0
    parts.result = Granted(identity=Identity(user="u"))
    await recheck_all(running)
    assert running.oldest_check_age == 0


async def test_a_look_at_many_connections_lets_other_tasks_run() -> None:
    turn = 0
    check_count: Counter[int] = Counter()

    class CountingConnection(FakeConnection):
        def close_if_client_gone(self) -> None:
            super().close_if_client_gone()
            check_count[turn] += 1

    async def others() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    parts = FakeParts()
    many = [CountingConnection(str(number)) for number in range(20 * BATCH_SIZE)]
    running = live_connections(parts, *many, recheck=0.001)
    other_task = asyncio.ensure_future(others())
    work = asyncio.ensure_future(running.run())
    await until(lambda: len(set(parts.rechecks)) == len(many))
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    other_task.cancel()
    assert max(check_count.values()) <= BATCH_SIZE
    assert set(parts.rechecks) == {each.live_access.token for each in many if each.live_access is not None}


def live_connections(parts: FakeParts, *connections: FakeConnection, **options: Any) -> LiveConnections:
    running = LiveConnections(parts, parts, **{"recheck": 30, "cut_expired": False} | options)
    for each in connections:
        running.add(each)
    return running


@pytest.mark.parametrize(
    ("resolution", "closed"),
    [
        pytest.param(None, True, id="deleted"),
        pytest.param(Unusable(key=KEY, reason="SecretNotFound", message=""), True, id="without its Secret"),
        pytest.param(replace(TARGET, address=Address(host="h", port=444)), True, id="at another address"),
        pytest.param(replace(TARGET, uid="other"), True, id="another object of that name"),
        pytest.param(replace(TARGET, credential=None), False, id="with another token"),
        pytest.param(TARGET, False, id="unchanged"),
        pytest.param(replace(TARGET, permissions=allow("pods")), False, id="limited to what runs"),
        pytest.param(replace(TARGET, permissions=allow("secrets")), True, id="limited to something else"),
        pytest.param(replace(TARGET, impersonation=Impersonation()), True, id="of another account"),
    ],
)
def test_live_connections_are_closed_when_their_connector_changes(resolution: Resolution, closed: bool) -> None:
    parts, live, idle = FakeParts(), FakeConnection(), FakeConnection(idle=True)
    running = live_connections(parts, live, idle)
    parts.resolution = resolution
    running.on_connectors_changed(frozenset({KEY, ObjectKey("n", "other")}))
    assert (bool(live.reasons), bool(idle.reasons)) == (closed, False)


@pytest.mark.parametrize(
    ("result", "closed"),
    [
        pytest.param(Refused(check="use", reason=""), True, id="refused"),
        pytest.param(Refused(check="token", reason=""), True, id="a token that is revoked"),
        pytest.param(Unavailable(reason=""), False, id="unavailable"),
        pytest.param(Granted(identity=Identity(user="u")), False, id="granted"),
    ],
)
async def test_connections_of_a_caller_without_the_right_are_closed(result: AccessResult, closed: bool) -> None:
    parts, live = FakeParts(), FakeConnection()
    parts.result = result
    await recheck_all(live_connections(parts, live))
    assert bool(live.reasons) is closed


async def test_a_refused_right_closes_the_connections_of_all_tokens_of_the_caller() -> None:
    parts, connections = FakeParts(), [FakeConnection(token) for token in "abc"]

    async def refuse(token: str, identity: Identity, key: ObjectKey) -> Refused:
        return Refused(check="use", reason="")

    parts.recheck_use = refuse  # type: ignore[method-assign]  # of a fake, for this test
    await recheck_all(live_connections(parts, *connections))
    assert all(each.reasons for each in connections)


async def test_a_connection_with_a_new_token_stays_open() -> None:
    parts, live = FakeParts(), FakeConnection()

    async def refuse(token: str, identity: Identity) -> AccessResult:
        assert live.live_access is not None
        live.live_access = replace(live.live_access, token="another")
        return Refused(check="token", reason="")

    parts.recheck_token = refuse  # type: ignore[method-assign]  # of a fake, for this test
    await recheck_all(live_connections(parts, live))
    assert live.reasons == []


async def test_closed_clients_are_detected_as_often_as_callers_are_rechecked() -> None:
    connection = FakeConnection()
    running = LiveConnections(FakeParts(), FakeParts(), recheck=0.01, cut_expired=False)
    running.add(connection)
    task = asyncio.ensure_future(running.run())
    await until(lambda: connection.check_count > 1)
    task.cancel()


async def test_many_connections_of_one_caller_are_rechecked_once() -> None:
    parts = FakeParts()
    await recheck_all(
        live_connections(
            parts, FakeConnection("a"), FakeConnection("a"), FakeConnection("b"), FakeConnection("c", idle=True)
        )
    )
    assert sorted(parts.rechecks) == ["a", "b"]


@pytest.mark.parametrize("closed", [False, True])
async def test_expired_tokens_close_connections_only_with_cut_expired(closed: bool) -> None:
    expired, running, unknown = FakeConnection(expires=1.0), FakeConnection(expires=1e12), FakeConnection()
    await recheck_all(live_connections(FakeParts(), expired, running, unknown, cut_expired=closed))
    assert (bool(expired.reasons), running.reasons, unknown.reasons) == (closed, [], [])


@pytest.mark.parametrize(
    ("boot", "node", "closed"),
    [
        pytest.param(9.9, 9.9, False, id="before the expiry"),
        pytest.param(10.0, 10.0, True, id="at the expiry"),
        pytest.param(10.0, -3600.0, True, id="at the expiry, by a node's clock that was set back"),
        pytest.param(5.0, 3600.0, True, id="after the expiry, by a node's clock that was wrong before"),
    ],
)
async def test_the_expiry_of_a_token_without_an_owner_closes_its_connections(
    boot: float, node: float, closed: bool
) -> None:
    now = {"boot": 500.0, "node": 1_000_000.0}
    expired, other = FakeConnection("a", expires=1_000_010.0, ends_with_token=True), FakeConnection("b")
    running = live_connections(FakeParts(), expired, other, clock=lambda: now["boot"], now=lambda: now["node"])
    await running.update_callers()
    now["boot"] += boot
    now["node"] += node
    await running.update_callers()
    assert (expired.reasons, other.reasons) == (["its caller's token has expired"] if closed else [], [])


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        pytest.param(9.9, "its caller may not use the Connector any more", id="before the expiry"),
        pytest.param(10.0, "its caller's token has expired", id="at the expiry"),
    ],
)
async def test_a_recheck_that_an_expired_token_fails_says_so(seconds: float, reason: str) -> None:
    now, parts = [1_000.0], FakeParts()
    expired = FakeConnection("a", expires=1_010.0, ends_with_token=True)
    running = live_connections(parts, expired, clock=lambda: now[0], now=lambda: now[0])
    await running.update_callers()
    now[0] += seconds
    parts.result = Refused(check="token", reason="")
    async with asyncio.TaskGroup() as tasks:
        await running._rechecks.start_due(tasks, running._checks())
    assert set(expired.reasons) == {reason}


def test_expired_tokens_close_connections_while_all_rechecks_hang() -> None:
    class HangingParts(FakeParts):
        async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
            self.rechecks.append(token)
            await asyncio.sleep(10)
            return Unavailable(reason="")

    async def run() -> None:
        loop_time = asyncio.get_running_loop().time
        parts = HangingParts()
        many = [FakeConnection(str(number), expires=20.0, ends_with_token=True) for number in range(3000)]
        running = live_connections(parts, *many, clock=loop_time, now=loop_time)
        work = asyncio.ensure_future(running.run())
        await asyncio.sleep(19)
        assert not any(each.reasons for each in many)
        await asyncio.sleep(4)
        assert all(each.reasons for each in many)
        work.cancel()

    run_in_virtual_time(run())


def test_a_closed_connection_is_removed() -> None:
    parts, live = FakeParts(), FakeConnection()
    running = live_connections(parts, live)
    running.remove(live)
    running.remove(live)
    parts.resolution = None
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == []


def test_the_text_form_of_live_access_shows_no_token() -> None:
    assert "canary" not in repr(FakeConnection("canary").live_access)


def test_close_all_closes_idle_and_active_connections() -> None:
    live, idle = FakeConnection(), FakeConnection(idle=True)
    live_connections(FakeParts(), live, idle).close_all("the proxy ends")
    assert (live.reasons, idle.reasons) == (["the proxy ends"], ["the proxy ends"])


def test_a_connection_that_the_permissions_still_allow_stays_open() -> None:
    parts, live = FakeParts(), FakeConnection()
    limited = replace(TARGET, permissions=allow("pods"))
    assert live.live_access is not None
    live.live_access = replace(live.live_access, target=limited)
    running = live_connections(parts, live)
    parts.resolution = limited
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == []
    parts.resolution = TARGET
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == []
    parts.resolution = replace(TARGET, permissions=allow("configmaps"))
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == ["its Connector no longer allows it"]


def test_connections_to_a_denied_address_are_closed_and_others_are_not() -> None:
    live_connections = LiveConnections(FakeParts(), FakeParts(), recheck=30.0, cut_expired=False)
    denied, allowed, idle, _ = connections = [
        FakeConnection(),
        FakeConnection(),
        FakeConnection(idle=True),
        FakeConnection(),
    ]
    denied.target_ip, allowed.target_ip, idle.target_ip = "10.0.0.1", "192.0.2.1", "10.0.0.2"
    for each in connections:
        live_connections.add(each)
    live_connections.close_denied(lambda ip: not ip.startswith("10."))
    reason = ["targets-deny denies the address of its target now"]
    assert [each.reasons for each in connections] == [reason, [], reason, []]


def test_a_connection_is_closed_if_its_response_would_be_masked_now() -> None:
    parts, live = FakeParts(), FakeConnection()
    assert live.live_access is not None
    watch = RequestAttributes(info=parse_request("GET", "/api/v1/secrets?watch=1", ""))
    live.live_access = replace(live.live_access, attributes=lambda: watch)
    running = live_connections(parts, live)
    masked = parts.resolution = replace(
        TARGET, permissions=PermissionEvaluator(None, (), Restrictions(masks_secrets=True))
    )
    live.live_access = replace(live.live_access, target=masked)
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == []
    live.live_access = replace(live.live_access, target=TARGET)
    running.on_connectors_changed(frozenset({KEY}))
    assert live.reasons == ["its Connector masks or limits it in another way now"]


def make_store(*objects: StoreObject, clock: list[Moment]) -> Store:
    store = Store(clock=AccessClock(lambda: clock[0].server, lambda: clock[0].boot))
    store.replace("test", (replace(CONNECTOR, key=KEY), *objects))
    store.set_admission_enforced_since(0.0)
    return store


def moved[T: (AccessPolicy, AccessRequest, AccessApproval, AccessLock)](obj: T) -> T:
    return replace(obj, key=ObjectKey(KEY.namespace, obj.key.name))


GRANT_OBJECTS = (moved(POLICY), replace(moved(REQUEST), connector=KEY.name), moved(APPROVAL))


def granted_connection(store: Store, *, has_right: bool = False) -> FakeConnection:
    """A connection whose request depends on the approved access request."""
    connection = FakeConnection()
    (grant,) = store.access.find_entitlement(JANE, KEY).grants
    caller = Granted(identity=JANE, has_right=has_right)
    connection.live_access = LiveAccess(TARGET, "t", caller, lambda: LIST_PODS, grant)
    return connection


def running_with(store: Store, parts: FakeParts, *connections: FakeConnection) -> LiveConnections:
    running = LiveConnections(parts, parts, recheck=30, cut_expired=False, entitlements=Entitlements(store.access))
    for each in connections:
        running.add(each)
    store.subscribe(running.on_connectors_changed)
    return running


def test_the_end_of_an_access_request_closes_its_connections() -> None:
    clock = [Moment(NOW, 0.0)]
    store = make_store(*GRANT_OBJECTS, clock=clock)
    connection, with_right, other = (
        granted_connection(store),
        granted_connection(store, has_right=True),
        FakeConnection(),
    )
    idle = FakeConnection(idle=True)
    running = running_with(store, FakeParts(), connection, with_right, other, idle)
    assert running.close_ended() == END_INTERVAL
    clock[0] = Moment(NOW + 3599.5, 3599.5)
    assert running.close_ended() == 0.5
    assert connection.reasons == []
    clock[0] = Moment(NOW + 3600, 3600.0)
    assert running.close_ended() == END_INTERVAL
    assert connection.reasons == with_right.reasons == ["its access request n/r has ended"]
    assert other.reasons == idle.reasons == []


def test_without_access_objects_no_connection_is_examined() -> None:
    running = running_with(Store(), FakeParts(), FakeConnection())
    assert running.close_ended() == END_INTERVAL


@pytest.mark.parametrize("kind", [AccessPolicy, AccessRequest, AccessApproval])
def test_the_deletion_of_an_object_of_a_grant_closes_its_connections(kind: type) -> None:
    store = make_store(*GRANT_OBJECTS, clock=[Moment(NOW, 0.0)])
    connection, other = granted_connection(store), FakeConnection()
    running_with(store, FakeParts(), connection, other)
    (obj,) = [each for each in GRANT_OBJECTS if isinstance(each, kind)]
    store.remove("test", kind, obj.key)
    assert connection.reasons == ["its access request n/r was deleted or is no longer approved"]
    assert other.reasons == []


@pytest.mark.parametrize("namespace", ["n", "connectors-system"])
def test_a_lock_closes_the_connections_of_its_callers(namespace: str) -> None:
    store = make_store(*GRANT_OBJECTS, clock=[Moment(NOW, 0.0)])
    store.access.system_namespace = "connectors-system"
    connection, other = granted_connection(store, has_right=True), FakeConnection()
    running_with(store, FakeParts(), connection, other)
    store.put("test", replace(LOCK, key=ObjectKey(namespace, "l"), users=frozenset({"jane"})))
    assert connection.reasons == ["an AccessLock locks its caller out: stolen laptop"]
    assert other.reasons == []


def test_a_lock_of_another_namespace_closes_nothing() -> None:
    store = make_store(*GRANT_OBJECTS, clock=[Moment(NOW, 0.0)])
    connection = granted_connection(store)
    running_with(store, FakeParts(), connection)
    store.put("test", LOCK)
    assert connection.reasons == []


@pytest.mark.parametrize(
    ("refusal", "reasons"),
    [
        pytest.param(Refused(check="use", reason="", has_opinion=False), [], id="no opinion"),
        pytest.param(
            Refused(check="use", reason=""), ["its caller may not use the Connector any more"], id="an opinion"
        ),
    ],
)
async def test_a_recheck_without_an_opinion_keeps_the_connections_of_a_grant(
    refusal: Refused, reasons: list[str]
) -> None:
    store = make_store(*GRANT_OBJECTS, clock=[Moment(NOW, 0.0)])
    parts, connection = FakeParts(), granted_connection(store)
    running = running_with(store, parts, connection)
    parts.use_result = refusal
    await recheck_all(running)
    assert connection.reasons == reasons


async def test_a_recheck_that_finds_the_end_of_an_access_request_says_so() -> None:
    clock = [Moment(NOW, 0.0)]
    store = make_store(*GRANT_OBJECTS, clock=clock)
    parts, connection = FakeParts(), granted_connection(store)
    running = running_with(store, parts, connection)
    parts.use_result = Refused(check="use", reason="", has_opinion=False)
    clock[0] = Moment(NOW + 3600, 3600.0)
    await recheck_all(running)
    assert set(connection.reasons) == {"its access request n/r has ended"}


async def test_a_recheck_without_an_opinion_closes_other_connections() -> None:
    store = make_store(clock=[Moment(NOW, 0.0)])
    parts, connection = FakeParts(), FakeConnection()
    running = running_with(store, parts, connection)
    parts.use_result = Refused(check="use", reason="", has_opinion=False)
    await recheck_all(running)
    assert connection.reasons == ["its caller may not use the Connector any more"]


def test_the_end_closes_a_connection_while_the_rechecks_run() -> None:
    async def run() -> None:
        clock = [Moment(NOW, 0.0)]
        store = make_store(*GRANT_OBJECTS, clock=clock)
        connection = granted_connection(store)
        running = running_with(store, FakeParts(), connection)
        task = asyncio.create_task(running.run())
        await asyncio.sleep(1)
        assert connection.reasons == []
        clock[0] = Moment(NOW + 3600, 3600.0)
        await asyncio.sleep(END_INTERVAL)
        assert connection.reasons
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_in_virtual_time(run())
