"""A mitmproxy script for soaks: it times all calls of the event loop and writes the figures to $BENCH_GAUGE every half
second.

Timed are callbacks, steps of tasks, and the protocols of connections. A call of more than STALL seconds is a stall. Its
own time is the time in which the thread did not wait for a core (run delay of /proc/thread-self/schedstat). This works
with asyncio's loop and with uvloop, which makes its calls in C.
"""

import asyncio
import gc
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final

from addons.net.tcp import TcpConnection

STALL = 0.02
PERIOD = 0.5
TICK = 0.01
SCHEDSTAT = Path("/proc/thread-self/schedstat")
SCHEDULING: Final = {"call_soon": 0, "call_soon_threadsafe": 0, "call_later": 1, "call_at": 1}
"""Methods of a loop, with the position of the callback among their arguments."""
MARK: Final = "timed_by_the_gauge"
PROTOCOLS: Final = (asyncio.StreamReaderProtocol, TcpConnection)
"""Protocols of the connections with clients and targets."""
EVENTS: Final = (
    "connection_made",
    "data_received",
    "buffer_updated",
    "eof_received",
    "connection_lost",
    "resume_writing",
)


class LoopGauge:
    """Writes tasks, callbacks, longest, longest_own and longest_gc in ms, stalls {callback: [count, ms, own ms]}."""

    def __init__(self) -> None:
        self.stop_event = threading.Event()
        self.callbacks = 0
        self.longest = self.longest_own = self.longest_gc = self.gc_start = self.delay = 0.0
        self.stalls: dict[str, tuple[int, float, float]] = {}
        self.replaced_methods: list[tuple[type, str, Any]] = []

    def running(self) -> None:
        self.file = Path(os.environ["BENCH_GAUGE"])
        self.loop = asyncio.get_running_loop()
        self._tick()
        self._time_callbacks()
        gc.callbacks.append(self._on_collection)
        self.thread = threading.Thread(target=self._write, name="gauge", daemon=True)
        self.thread.start()

    def done(self) -> None:
        self.stop_event.set()
        gc.callbacks.remove(self._on_collection)
        for owner, name, original in self.replaced_methods:
            setattr(owner, name, original)

    def _tick(self) -> None:
        """Record the run delay again and again, so that the last value before a stall is at most TICK seconds old."""
        self.delay = _run_delay()
        self.loop.call_later(TICK, self._tick)

    def _time_callbacks(self) -> None:
        for name, position in SCHEDULING.items():
            self._replace(type(self.loop), name, partial(self._wrap_schedule, position))
        for protocol in PROTOCOLS:
            for name in EVENTS:
                if name in vars(protocol):
                    self._replace(protocol, name, self._wrap_callback)

    def _replace(self, owner: type, name: str, made_of: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        self.replaced_methods.append((owner, name, original))
        setattr(owner, name, made_of(original))

    def _wrap_schedule(self, position: int, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def schedule(loop: asyncio.AbstractEventLoop, *args: Any, **kwargs: Any) -> Any:
            return method(loop, *args[:position], self._wrap_callback(args[position]), *args[position + 1 :], **kwargs)

        return schedule

    def _wrap_callback(self, call: Callable[..., Any]) -> Callable[..., Any]:
        wall = time.perf_counter
        if hasattr(call, MARK):
            # The callback was wrapped when one method of the loop called another.
            return call

        def timed(*args: Any) -> Any:
            start = wall()
            try:
                return call(*args)
            finally:
                seconds = wall() - start
                self.callbacks += 1
                if seconds > self.longest or seconds > STALL:
                    self._record_stall(call, seconds)

        vars(timed)[MARK] = True
        return timed

    def _record_stall(self, call: object, seconds: float) -> None:
        delay = _run_delay()
        own_seconds, self.delay = max(0.0, seconds - (delay - self.delay)), delay
        self.longest, self.longest_own = max(self.longest, seconds), max(self.longest_own, own_seconds)
        if seconds > STALL:
            name = _name_of(call)
            count, worst, worst_own = self.stalls.get(name, (0, 0.0, 0.0))
            self.stalls[name] = (count + 1, max(worst, seconds * 1e3), max(worst_own, own_seconds * 1e3))

    def _on_collection(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self.gc_start = time.perf_counter()
        else:
            self.longest_gc = max(self.longest_gc, time.perf_counter() - self.gc_start)

    def _write(self) -> None:
        while not self.stop_event.wait(PERIOD):
            draft = self.file.with_suffix(".draft")
            draft.write_text(json.dumps(self._state()))
            draft.replace(self.file)

    def _state(self) -> dict[str, Any]:
        tasks = Counter(_name_of(task.get_coro()) for task in asyncio.all_tasks(self.loop))
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


def _name_of(what: object) -> str:
    owner = getattr(what, "__self__", what)
    if isinstance(owner, asyncio.Task):
        return _name_of(owner.get_coro())
    return getattr(what, "__qualname__", None) or type(what).__qualname__


addons = [LoopGauge()]
