"""Slots are bounded, and a call that hangs loses its slot."""

import asyncio

from connector_store.timed_slots import TimedSlots
from tests.fakes.virtual_time import run_in_virtual_time


def test_a_slot_is_released_at_its_end_or_after_the_timeout_and_only_once() -> None:
    async def run() -> list[float]:
        clock, slots, times = asyncio.get_running_loop().time, TimedSlots(1, timeout=0.5), list[float]()

        async def call(seconds: float) -> None:
            with await slots.acquire():
                times.append(clock())
                await asyncio.sleep(seconds)

        await asyncio.gather(*(call(seconds) for seconds in (0.1, 60, 60, 0.2, 0.0)))
        return times

    # The hanging second and third call give their slots back after half a second, and not again at their ends.
    times = run_in_virtual_time(run())
    assert [round(each, 3) for each in times] == [0.0, 0.1, 0.6, 1.1, 1.3]
