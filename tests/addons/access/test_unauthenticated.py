"""Limit on connections without an authenticated caller: who is admitted, who waits, and who is refused."""

from collections import Counter
from functools import partial

import pytest

from addons.access.unauthenticated import LOG_INTERVAL, Release, UnauthenticatedLimit
from tests.fakes.waiting import until


class Clients:
    """Connections that ask `limit`, by name."""

    def __init__(self, **changes: float) -> None:
        limits = {"max_unauthenticated": 10, "max_unauthenticated_per_address": 10, "max_open": 100, "max_wait": 60.0}
        self.now = 0.0
        self.limit = UnauthenticatedLimit(**limits | changes, now=lambda: self.now)  # type: ignore[arg-type]  # a table
        self.admitted: dict[str, Release] = {}
        """Admitted connections, in this order."""
        self.refused: list[str] = []

    def open(self, *names: str, open_count: int = 0) -> None:
        """Open connections. The address is the part of the name before "/"."""
        for name in names:
            address = name.partition("/")[0]
            on_admitted, on_refused = partial(self.admitted.__setitem__, name), partial(self.refused.append, name)
            self.limit.admit(address, on_admitted, on_refused, open_count=open_count)


def test_above_the_number_of_descriptors_connections_are_refused_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clients = Clients(max_open=2)
    clients.open("a/1", "a/2", "a/3", open_count=2)
    assert clients.refused == ["a/1", "a/2", "a/3"]
    assert caplog.messages == ["connections are refused: 2 are open, as many as there are descriptors for (1 so far)"]
    assert (clients.limit.count, clients.limit.refusal_count) == (0, 3)


async def test_connections_that_wait_need_descriptors_too() -> None:
    clients = Clients(max_unauthenticated=1, max_open=3)
    clients.open("a/1", open_count=0)
    clients.open("a/2", "a/3", "a/4", open_count=1)
    assert clients.refused == ["a/4"]
    clients.limit.refuse_waiting()


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param({"max_unauthenticated": 2}, id="in all"),
        pytest.param({"max_unauthenticated_per_address": 2}, id="of one address"),
    ],
)
async def test_at_the_limit_connections_wait_for_their_turn(limit: dict[str, float]) -> None:
    clients = Clients(**limit)
    clients.open(*(f"a/{number}" for number in range(5)))
    assert list(clients.admitted) == ["a/0", "a/1"]
    assert (clients.limit.count, clients.limit.waiting_count) == (2, 3)
    clients.admitted["a/1"]()
    clients.admitted["a/1"]()
    assert list(clients.admitted) == ["a/0", "a/1", "a/2"]
    for name in ("a/0", "a/2"):
        clients.admitted[name]()
    assert list(clients.admitted) == ["a/0", "a/1", "a/2", "a/3", "a/4"]
    for name in ("a/3", "a/4"):
        clients.admitted[name]()
    assert (clients.limit.count, clients.limit.waiting_count, clients.refused) == (0, 0, [])
    assert not clients.limit._count_by_address
    assert not clients.limit.waiting_count


async def test_the_limit_of_one_address_does_not_affect_another() -> None:
    clients = Clients(max_unauthenticated_per_address=1)
    clients.open("a/1", "a/2", "b/1")
    assert list(clients.admitted) == ["a/1", "b/1"]
    clients.limit.refuse_waiting()


async def test_addresses_take_turns() -> None:
    clients = Clients(max_unauthenticated=1)
    clients.open("x/1", *(f"a/{number}" for number in range(3)), "b/0", "c/0", "b/1")
    for _ in range(6):
        clients.admitted[list(clients.admitted)[-1]]()
    assert list(clients.admitted) == ["x/1", "a/0", "b/0", "c/0", "a/1", "b/1", "a/2"]


async def test_an_address_at_its_limit_is_passed_over() -> None:
    clients = Clients(max_unauthenticated=2, max_unauthenticated_per_address=1)
    clients.open("a/0", "a/1", "b/0", "b/1", "c/0")
    clients.admitted["b/0"]()
    assert list(clients.admitted) == ["a/0", "b/0", "b/1"]
    clients.admitted["b/1"]()
    assert list(clients.admitted)[3:] == ["c/0"]
    clients.limit.refuse_waiting()


async def test_a_full_queue_has_room_for_addresses_with_fewer_waiting_connections() -> None:
    clients = Clients(max_unauthenticated_per_address=1, max_unauthenticated=2, max_waiting=4)
    clients.open("a/0", "b/0", "a/1", "a/2", "a/3", "a/4")
    clients.open("a/5")
    assert clients.refused == ["a/5"]
    clients.open("c/0", "d/0", "d/1", "a/6")
    assert clients.refused == ["a/5", "a/4", "a/3", "d/1", "a/6"]
    assert Counter(waiter.address for waiter in clients.limit._waiting) == {"a": 2, "c": 1, "d": 1}
    assert clients.limit.waiting_count == 4
    clients.limit.refuse_waiting()


async def test_a_connection_that_waits_for_too_long_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    clients = Clients(max_unauthenticated=1, max_wait=0.01)
    clients.open("a/0", "a/1", "b/0")
    await until(lambda: clients.refused == ["a/1", "b/0"])
    assert caplog.messages == ["connections are refused: a has waited for 0.01 s (1 so far)"]
    assert clients.limit.waiting_count == 0
    clients.admitted["a/0"]()
    assert list(clients.admitted) == ["a/0"]


async def test_connections_that_fail_at_once_make_room_for_the_next_ones() -> None:
    clients = Clients(max_unauthenticated=1)
    clients.open("a/0")
    failed: list[int] = []

    def fail(number: int, release: Release) -> None:
        failed.append(number)
        release()

    for number in range(2000):
        clients.limit.admit("a", partial(fail, number), pytest.fail, open_count=-number)
    clients.admitted["a/0"]()
    assert failed == list(range(2000))
    assert clients.limit.count == 0


async def test_refused_addresses_are_not_stored() -> None:
    clients = Clients(max_unauthenticated=0, max_waiting=0)
    clients.open(*(f"{number}/0" for number in range(9)))
    assert len(clients.refused) == 9
    assert not clients.limit._count_by_address
    assert not clients.limit.waiting_count


def test_refusals_are_logged_again_after_the_interval(caplog: pytest.LogCaptureFixture) -> None:
    clients = Clients(max_open=0)
    clients.open("a/0")
    clients.now = LOG_INTERVAL
    clients.open("a/0")
    assert [each.rpartition("(")[2] for each in caplog.messages] == ["1 so far)", "2 so far)"]
