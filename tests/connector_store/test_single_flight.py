"""Concurrent callers with the same key share one call, and the number of calls is bounded."""

import asyncio
from collections.abc import Hashable

import pytest

from connector_store import single_flight
from connector_store.domain.callers.access import Unavailable
from connector_store.single_flight import SingleFlight


class World:
    """Calls that return their number when `go_on` is set."""

    def __init__(self, max_in_flight: int = 2, max_wait: float = 10.0) -> None:
        self.flights = SingleFlight(max_in_flight=max_in_flight, description="reviews", max_wait=max_wait)
        self.fetched_keys: list[Hashable] = []
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def once(self, question: Hashable) -> int | Unavailable:
        async def ask() -> int:
            self.fetched_keys.append(question)
            number = len(self.fetched_keys)
            await self.go_on.wait()
            if self.error is not None:
                raise self.error
            return number

        return await self.flights.do(question, ask)

    async def start(self, *questions: Hashable) -> list[asyncio.Future[int | Unavailable]]:
        """Start all of them, and wait until each one waits or is done."""
        tasks: list[asyncio.Future[int | Unavailable]] = [asyncio.ensure_future(self.once(each)) for each in questions]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks


async def test_concurrent_callers_with_the_same_key_share_one_call() -> None:
    world = World()
    waiting = await world.start("a", "a", "b", "a")
    assert world.fetched_keys == ["a", "b"]
    world.go_on.set()
    assert await asyncio.gather(*waiting) == [1, 1, 2, 1]


async def test_a_later_caller_starts_another_call() -> None:
    world = World()
    world.go_on.set()
    assert [await world.once("a"), await world.once("a")] == [1, 2]


async def test_calls_above_the_limit_wait_for_a_place() -> None:
    world = World(max_in_flight=2)
    waiting = await world.start("a", "b", "c", "d", "c")
    assert world.fetched_keys == ["a", "b"]
    world.go_on.set()
    assert await asyncio.gather(*waiting) == [1, 2, 3, 4, 3]


async def test_calls_that_get_no_place_in_time_are_refused() -> None:
    world = World(max_in_flight=1, max_wait=0.01)
    waiting = await world.start("a")
    assert await world.once("b") == Unavailable(reason="1 reviews are under way already", kind="too_many_reviews")
    (late,) = await world.start("a")
    world.go_on.set()
    assert await asyncio.gather(*waiting, late) == [1, 1]
    assert await world.once("b") == 2


async def test_calls_above_the_limit_of_waiting_calls_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "MAX_WAITING", 1)
    world = World(max_in_flight=1)
    waiting = await world.start("a", "b", "c")
    assert waiting[2].result() == Unavailable(reason="1 reviews are under way already", kind="too_many_reviews")
    world.go_on.set()
    assert await asyncio.gather(*waiting[:2]) == [1, 2]


async def test_a_cancelled_caller_does_not_cancel_the_others() -> None:
    world = World()
    cancelled, stays = await world.start("a", "a")
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    world.go_on.set()
    assert await stays == 1


async def test_all_callers_get_the_exception_and_the_next_one_starts_another_call() -> None:
    world = World()
    world.error = RuntimeError("no")
    waiting = await world.start("a", "a")
    world.go_on.set()
    for each in waiting:
        with pytest.raises(RuntimeError, match="no"):
            await each
    world.error = None
    assert await world.once("a") == 2
