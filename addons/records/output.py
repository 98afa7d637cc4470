"""Writes audit lines where somebody may not read them, without keeping the event loop waiting."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TextIO

logger = logging.getLogger(__name__)

FLUSH_AFTER: Final = 0.05
"""Seconds from the first waiting line, or the end of a write, to the next write; lines of that time share it."""


class Output:
    """One write at a time, on a thread of its own; lines wait in the audit log meanwhile."""

    def __init__(self, stream: Callable[[], TextIO]) -> None:
        self._stream = stream
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="connector-audit")
        self._busy = False
        self._open = True
        self.lost = 0
        """Lines that could not be written."""
        self.failing = False
        """The last write failed."""
        self.flush: Callable[[], None] = lambda: None
        """AuditLog.flush, set by whoever wires the two."""

    def wake(self) -> None:
        """Lines wait: have them flushed soon."""
        if not self._busy:
            asyncio.get_running_loop().call_later(FLUSH_AFTER, self._flush)

    def write(self, lines: str) -> None:
        """Called by `flush`."""
        self._busy = True
        done = asyncio.get_running_loop().run_in_executor(self._thread, self._write, lines)
        done.add_done_callback(partial(self._written, lines.count("\n")))

    def close(self) -> None:
        """Hand over what waits; the thread ends when it is written."""
        if self._open:
            self.flush()
        self._open = False
        self._thread.shutdown(wait=False)

    def _flush(self) -> None:
        if self._open and not self._busy:
            self.flush()

    def _written(self, count: int, done: asyncio.Future[None]) -> None:
        self._busy = False
        failed = done.cancelled() or done.exception() is not None
        if failed:
            self.lost += count
        if failed and not self.failing:
            logger.error("audit lines cannot be written: %s", type(done.exception()).__name__)
        self.failing = failed
        if self._open:
            self.wake()

    def _write(self, lines: str) -> None:
        stream = self._stream()
        stream.write(lines)
        stream.flush()
