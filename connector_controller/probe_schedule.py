"""Schedule of the targets' probes. Each target is probed when its probe changes, and after each interval.

A failure after successes is not reported at once. The probe is repeated soon, and FAILURE_THRESHOLD failures in a row
are reported. With many Connectors the interval grows, so that the process keeps up.

At most `start_slots` probes start at a time. A probe without a response after SLOT_TIMEOUT gives its slot to the next
one and continues. So dead targets do not delay the probes of others.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Never

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.status.conditions import ProbeFailure, ProbeOutcomes
from connector_store.probes import ProbeRequest
from connector_store.timed_slots import TimedSlots

logger = logging.getLogger(__name__)

START_SLOTS: Final = 64
SLOT_TIMEOUT: Final = 0.5
"""Seconds. Probes take at most 5 s, so at most 640 are open at any time."""

FAILURE_THRESHOLD: Final = 3
"""Failures in a row that change a healthy state, as the failureThreshold of kubelet's probes."""

CONFIRM_INTERVAL: Final = 5.0
"""Seconds between the probes that confirm a failure, or the interval if it is shorter."""

MAX_RATE: Final = 30.0
"""Probes a second, which cost about a quarter of a core. 10,000 Connectors are probed every six minutes."""

JITTER: Final = 0.2
"""Share of the interval by which the delay between two probes varies, up and down."""


@dataclass(slots=True)
class _Entry:
    request: ProbeRequest
    task: asyncio.Task[Never]
    needs_confirmation: bool
    """The last reported outcome was healthy, so failures must be confirmed."""
    result: ProbeOutcomes | None = None
    failure_count: int = 0


class ProbeSchedule:
    """Probe loop for each Connector. `on_result` gets the key when an outcome differs from the last."""

    def __init__(
        self,
        probe: Callable[[ProbeRequest], Awaitable[ProbeOutcomes]],
        on_result: Callable[[ObjectKey], None],
        *,
        interval: float,
        start_slots: int = START_SLOTS,
        rng: random.Random | None = None,
    ) -> None:
        self._probe = probe
        self._on_result = on_result
        self._interval = interval
        self._has_new_interval = asyncio.Event()
        self._start_slots = TimedSlots(start_slots, timeout=SLOT_TIMEOUT)
        self._random = rng or random.Random()  # noqa: S311 - jitter, not security
        self._entries: dict[ObjectKey, _Entry] = {}

    @property
    def interval(self) -> float:
        """Seconds between two probes of a Connector. It grows with the number of Connectors."""
        return max(self._interval, len(self._entries) / MAX_RATE)

    def set_interval(self, interval: float) -> None:
        """Set the seconds between two probes of a Connector. A shorter interval also applies to the next probes."""
        if interval != self._interval:
            self._interval = interval
            has_new_interval, self._has_new_interval = self._has_new_interval, asyncio.Event()
            has_new_interval.set()

    def get_result(self, key: ObjectKey, request: ProbeRequest, *, was_ready: bool = False) -> ProbeOutcomes | None:
        """Return the last outcome of `request`, or None before the first. `on_result` is called when it changes.

        `was_ready` is True if the status shows a working Connector. Then the first failure must be confirmed, too.
        """
        entry = self._entries.get(key)
        if entry is not None and entry.request == request:
            return entry.result
        self.forget(key)
        if request.liveness is None and request.auth is None:
            return ProbeOutcomes()
        task = asyncio.create_task(self._probe_loop(key, request))
        self._entries[key] = _Entry(request=request, task=task, needs_confirmation=was_ready)
        return None

    def forget(self, key: ObjectKey) -> None:
        """Stop the probes of a Connector that was deleted or cannot be probed."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.task.cancel()

    def close(self) -> None:
        for key in tuple(self._entries):
            self.forget(key)

    async def _probe_loop(self, key: ObjectKey, request: ProbeRequest) -> Never:
        while True:
            try:
                with await self._start_slots.acquire():
                    result = await self._probe(request)
            except Exception:  # without this, the Connector's status would never change again
                logger.exception("probe of %s", key)
                result = ProbeOutcomes(liveness=ProbeFailure(message="the probe failed; see the controller's log"))
            delay = self._record_result(key, self._entries[key], result)
            await self._sleep(delay * self._random.uniform(1 - JITTER, 1 + JITTER))

    async def _sleep(self, seconds: float) -> None:
        """Wait `seconds`, or a random part of the interval if that becomes shorter meanwhile."""
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        while (remaining := deadline - now()) > 0:
            has_new_interval = self._has_new_interval
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await has_new_interval.wait()
                    deadline = min(deadline, now() + self.interval * self._random.uniform(0, 1))

    def _record_result(self, key: ObjectKey, entry: _Entry, result: ProbeOutcomes) -> float:
        """Record the outcome. Return the seconds to the next probe."""
        is_healthy = not result.failed_probe
        entry.failure_count = 0 if is_healthy else entry.failure_count + 1
        if not is_healthy and entry.needs_confirmation and entry.failure_count < FAILURE_THRESHOLD:
            return min(CONFIRM_INTERVAL, self._interval)
        entry.needs_confirmation = is_healthy
        if entry.result != result:
            entry.result = result
            self._on_result(key)
        return self.interval
