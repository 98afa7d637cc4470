"""Leader election: the protocol with a fake API server, the decisions as values."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from aiohttp import web

from connector_store.domain.base.names import ObjectKey
from connector_store.kube import lease
from connector_store.kube.client import KubeClient
from connector_store.kube.lease import (
    LEASE_DURATION,
    RENEW_DEADLINE,
    RETRY_PERIOD,
    LeaderElector,
    ObservedLease,
    attempt_timeout,
    lease_spec,
    may_acquire,
    observe,
)
from connector_store.kube.resources import LEASES
from tests.fakes.api_server import NoResponse, refusal
from tests.fakes.waiting import until

KEY = ObjectKey("sys", "controller")
PATH = LEASES.path(*KEY)
NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
HELD = ObservedLease(
    holder="a", resource_version="1", duration=10, transitions=3, acquire_time="then", observed_at=100.0
)


@pytest.mark.parametrize(
    ("holder", "now", "may"),
    [
        pytest.param("b", 100.0, True, id="it is ours"),
        pytest.param("", 100.0, True, id="it was released"),
        pytest.param("a", 109.9, False, id="its holder still has time"),
        pytest.param("a", 110.0, True, id="its holder did not renew it"),
    ],
)
def test_who_may_acquire_the_lease(holder, now, may) -> None:
    lease = ObservedLease(
        holder=holder, resource_version="1", duration=10, transitions=0, acquire_time="", observed_at=100.0
    )
    assert may_acquire(lease, "b", now) is may


def test_the_duration_restarts_only_when_the_lease_changed() -> None:
    raw = {"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 10}}
    first = observe(raw, None, 100.0)
    assert observe(raw, first, 105.0) is first
    changed = {**raw, "metadata": {"resourceVersion": "2"}}
    assert observe(changed, first, 105.0).observed_at == 105.0
    assert observe({}, None, 1.0) == ObservedLease(
        holder="", resource_version="", duration=lease.LEASE_DURATION, transitions=0, acquire_time="", observed_at=1.0
    )


def test_taking_counts_a_transition_and_renewing_does_not() -> None:
    text = "2026-01-02T03:04:05.000678Z"
    assert lease_spec("b", HELD, NOW) == {
        "holderIdentity": "b",
        "leaseDurationSeconds": lease.LEASE_DURATION,
        "acquireTime": text,
        "renewTime": text,
        "leaseTransitions": 4,
    }
    renewed = lease_spec("a", HELD, NOW)
    assert (renewed["acquireTime"], renewed["leaseTransitions"]) == ("then", 3)
    assert lease_spec("a", None, NOW)["leaseTransitions"] == 0


def test_a_leader_stops_before_its_lease_expires_after_more_than_one_attempt() -> None:
    assert LEASE_DURATION > RENEW_DEADLINE
    assert RETRY_PERIOD + attempt_timeout(RENEW_DEADLINE) < RENEW_DEADLINE, "after one request that hangs comes another"
    assert attempt_timeout(1.0) == 1.0
    assert attempt_timeout(-1.0) == 0.0


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Renew often, and lose or give up the Lease late, so that a busy machine does not lose it."""
    monkeypatch.setattr(lease, "RETRY_PERIOD", 0.05)
    monkeypatch.setattr(lease, "RENEW_DEADLINE", 8.0)
    monkeypatch.setattr(lease, "_RELEASE_TIMEOUT", 120.0)


class Candidate:
    def __init__(self, client: KubeClient, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.election = LeaderElector(client, KEY, name, clock=clock)
        self.started, self.stopped = asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(self.election.run(self.lead))

    async def lead(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(120):
        await event.wait()


async def holder(client: KubeClient) -> str:
    spec = (await client.get(PATH))["spec"]
    return str(spec["holderIdentity"])


async def test_one_of_two_leads_and_hands_over_at_once_when_it_stops(server, client) -> None:
    def looks() -> int:
        return sum((method, path) == ("GET", PATH) for method, path, _ in server.requests)

    one = Candidate(client, "one")
    await soon(one.started)
    assert one.election.is_leading
    before = looks()
    other = Candidate(client, "other")
    await until(lambda: looks() > before + 2)
    assert not other.started.is_set()
    await one.stop()
    assert one.stopped.is_set()
    assert not one.election.is_leading
    await soon(other.started)
    assert await holder(client) == "other"
    await other.stop()
    assert await holder(client) == ""


async def test_a_dead_leader_is_replaced_when_its_lease_expires(server, client) -> None:
    dead = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "leaseTransitions": 5}
    await server.put(LEASES, {"metadata": {"name": KEY.name, "namespace": KEY.namespace}, "spec": dead})
    one = Candidate(client, "one")
    await soon(one.started)
    assert (await client.get(PATH))["spec"]["leaseTransitions"] == 6
    await one.stop()


async def test_a_leader_that_cannot_renew_stops_leading_and_leads_again_later(server, client, caplog) -> None:
    now = [0.0]
    one = Candidate(client, "one", lambda: now[0])
    await soon(one.started)
    one.started.clear()
    server.faults.append(lambda request: refusal(500, "InternalError", "etcd is away"))
    before = len(server.requests)
    await until(lambda: len(server.requests) >= before + 5)
    assert not one.stopped.is_set()
    now[0] = lease.RENEW_DEADLINE
    await soon(one.stopped)
    await until(lambda: not one.election.is_leading)
    server.faults.clear()
    await soon(one.started)
    assert caplog.text.count("etcd is away") <= 3, "told when it begins, not at each try"
    await one.stop()


async def test_one_request_that_hangs_does_not_cost_the_lease(server, client, monkeypatch) -> None:
    monkeypatch.setattr(lease, "RENEW_DEADLINE", 0.4)
    # Time stands still, so that a busy machine does not lose the Lease here either.
    one = Candidate(client, "one", lambda: 0.0)
    await soon(one.started)
    hung = asyncio.Event()

    def hang_once(request: web.Request) -> web.StreamResponse | None:
        if hung.is_set():
            return None
        hung.set()
        return NoResponse()

    server.faults.append(hang_once)
    await soon(hung)
    before = len(server.requests)
    await until(lambda: len(server.requests) >= before + 4)
    assert not one.stopped.is_set()
    await one.stop()


async def test_a_term_is_counted_from_before_the_request_that_began_it(server, client) -> None:
    now = [0.0]

    def slow(request: web.Request) -> None:
        now[0] += 6 if request.method == "POST" else 0

    server.faults.append(slow)
    one = Candidate(client, "one", lambda: now[0])
    await soon(one.started)
    server.faults.append(lambda request: refusal(500, "InternalError", "etcd is away"))
    now[0] = 8.0
    await soon(one.stopped)
    await one.stop()


async def test_writes_whose_responses_are_lost_do_not_extend_a_term(server, client) -> None:
    now = [0.0]

    def lose(request: web.Request) -> bool:
        now[0] += 3 if request.method == "PUT" else 0
        return request.method == "PUT"

    server.drops_response = lose
    one = Candidate(client, "one", lambda: now[0])
    await soon(one.started)
    await soon(one.stopped)
    await one.stop()


async def test_a_lease_with_another_holder_ends_the_term(server, client) -> None:
    one = Candidate(client, "one")
    await soon(one.started)
    thief = {"holderIdentity": "thief", "leaseDurationSeconds": 600}
    await server.put(LEASES, {"metadata": {"name": KEY.name, "namespace": KEY.namespace}, "spec": thief})
    await soon(one.stopped)
    await one.stop()
    assert await holder(client) == "thief", "what is not ours is not released"


async def test_an_exception_of_lead_ends_the_election(client) -> None:
    async def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await LeaderElector(client, KEY, "one").run(fail)
    assert await holder(client) == ""


async def test_a_lease_that_cannot_be_released_expires(server, client, caplog) -> None:
    caplog.set_level("INFO")
    one = Candidate(client, "one")
    await soon(one.started)
    server.faults.append(lambda request: refusal(403, "Forbidden", "no patch") if request.method == "PATCH" else None)
    await one.stop()
    assert "expires by itself" in caplog.text
