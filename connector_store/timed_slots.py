"""Bound on calls that start at the same time. A call that hangs gives its slot to the next one and continues."""

import asyncio
from contextlib import ExitStack


class TimedSlots:
    """`count` slots. Each is held for at most `timeout` seconds, so a dependency that hangs does not block others."""

    def __init__(self, count: int, *, timeout: float) -> None:
        self._slots = asyncio.Semaphore(count)
        self._timeout = timeout

    async def acquire(self) -> ExitStack:
        """Wait for a slot, and return it. Closing it releases the slot, if `timeout` has not released it yet."""
        await self._slots.acquire()
        slot = ExitStack()
        slot.callback(self._slots.release)
        timer = asyncio.get_running_loop().call_later(self._timeout, slot.close)
        slot.callback(timer.cancel)
        return slot
