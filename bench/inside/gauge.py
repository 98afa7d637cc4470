"""A mitmproxy script for soaks: measures the event loop from inside and writes it to $BENCH_GAUGE every half second.

Each callback of the loop is timed. One that holds the loop for longer than STALL seconds is a stall; it is ours only
for the time in which the thread did not wait for a core (run delay of /proc/thread-self/schedstat).
"""

import asyncio
import gc
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

STALL = 0.02
PERIOD = 0.5
TICK = 0.01
SCHEDSTAT = Path("/proc/thread-self/schedstat")


class LoopGauge:
    """Writes tasks, callbacks, longest, longest_own and longest_gc in ms, stalls {callback: [count, ms, own ms]}."""

    def __init__(self) -> None:
        self.file = Path(os.environ["BENCH_GAUGE"])
        self.stopped = threading.Event()
        self.callbacks = 0
        self.longest = self.longest_own = self.longest_gc = self.gc_start = self.delay = 0.0
        self.stalls: dict[str, tuple[int, float, float]] = {}

    def running(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._tick()
        self._time_callbacks()
        gc.callbacks.append(self._collected)
        self.thread = threading.Thread(target=self._write, name="gauge", daemon=True)
        self.thread.start()

    def done(self) -> None:
        self.stopped.set()

    def _tick(self) -> None:
        """Keeps the run delay before a stall: at most TICK older than the stall's start."""
        self.delay = _run_delay()
        self.loop.call_later(TICK, self._tick)

    def _time_callbacks(self) -> None:
        run, gauge = asyncio.Handle._run, self
        wall = time.perf_counter

        def timed(handle: asyncio.Handle) -> None:
            start = wall()
            run(handle)
            took = wall() - start
            gauge.callbacks += 1
            if took > gauge.longest or took > STALL:
                gauge._long(handle, took)

        asyncio.Handle._run = timed  # type: ignore[method-assign,assignment] # the only way to time callbacks without debug mode

    def _long(self, handle: asyncio.Handle, took: float) -> None:
        delay = _run_delay()
        own, self.delay = max(0.0, took - (delay - self.delay)), delay
        self.longest, self.longest_own = max(self.longest, took), max(self.longest_own, own)
        if took > STALL:
            name = _named(getattr(handle, "_callback", None))
            count, worst, worst_own = self.stalls.get(name, (0, 0.0, 0.0))
            self.stalls[name] = (count + 1, max(worst, took * 1e3), max(worst_own, own * 1e3))

    def _collected(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self.gc_start = time.perf_counter()
        else:
            self.longest_gc = max(self.longest_gc, time.perf_counter() - self.gc_start)

    def _write(self) -> None:
        while not self.stopped.wait(PERIOD):
            draft = self.file.with_suffix(".draft")
            draft.write_text(json.dumps(self._state()))
            draft.replace(self.file)

    def _state(self) -> dict[str, Any]:
        tasks = Counter(_named(task.get_coro()) for task in asyncio.all_tasks(self.loop))
        return {
            "tasks": tasks.total(),
            "tasks_by_name": tasks,
            "callbacks": self.callbacks,
            "longest": self.longest * 1e3,
            "longest_own": self.longest_own * 1e3,
            "longest_gc": self.longest_gc * 1e3,
            "stalls": self.stalls,
        }


def _run_delay() -> float:
    return int(SCHEDSTAT.read_text().split()[1]) / 1e9


def _named(what: object) -> str:
    owner = getattr(what, "__self__", what)
    if isinstance(owner, asyncio.Task):
        return _named(owner.get_coro())
    return getattr(what, "__qualname__", None) or type(what).__qualname__


addons = [LoopGauge()]
