"""One answer for all who ask the same at the same time, and a bound on what is asked at once."""

import asyncio
from collections.abc import Hashable

import pytest

from connector_store.domain.callers.access import Unavailable
from connector_store.single_flight import SingleFlight


class World:
    """Questions that are answered with their number when `go_on` is set."""

    def __init__(self, max_in_flight: int = 2) -> None:
        self.flights = SingleFlight(max_in_flight=max_in_flight, description="reviews")
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
        """All of them wait for their answers, as far as they do."""
        tasks: list[asyncio.Future[int | Unavailable]] = [asyncio.ensure_future(self.once(each)) for each in questions]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks


async def test_all_who_ask_the_same_get_one_answer() -> None:
    world = World()
    waiting = await world.start("a", "a", "b", "a")
    assert world.fetched_keys == ["a", "b"]
    world.go_on.set()
    assert await asyncio.gather(*waiting) == [1, 1, 2, 1]


async def test_who_comes_after_the_answer_asks_again() -> None:
    world = World()
    world.go_on.set()
    assert [await world.once("a"), await world.once("a")] == [1, 2]


async def test_what_is_too_much_is_refused_at_once_and_no_place_is_lost() -> None:
    world = World(max_in_flight=1)
    waiting = await world.start("a")
    assert await world.once("b") == Unavailable(reason="1 reviews are under way already", retry_after=1)
    (late,) = await world.start("a")
    world.go_on.set()
    assert await asyncio.gather(*waiting, late) == [1, 1]
    assert await world.once("b") == 2


async def test_who_goes_away_takes_the_answer_from_nobody_else() -> None:
    world = World()
    cancelled, stays = await world.start("a", "a")
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    world.go_on.set()
    assert await stays == 1


async def test_what_it_raises_all_get_and_the_next_asks_again() -> None:
    world = World()
    world.error = RuntimeError("no")
    waiting = await world.start("a", "a")
    world.go_on.set()
    for each in waiting:
        with pytest.raises(RuntimeError, match="no"):
            await each
    world.error = None
    assert await world.once("a") == 2
