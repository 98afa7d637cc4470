"""Writes audit lines where somebody may not read them, without keeping the event loop waiting."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TextIO

logger = logging.getLogger(__name__)

FLUSH_INTERVAL: Final = 0.05
"""Seconds from the first waiting line, or the end of a write, to the next write; lines of that time share it."""


class AuditWriter:
    """One write at a time, on a thread of its own; lines wait in the audit log meanwhile."""

    def __init__(self, stream: Callable[[], TextIO]) -> None:
        self._stream = stream
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="connector-audit")
        self._is_writing = False
        self._is_open = True
        self.lost_count = 0
        """Lines that could not be written."""
        self.is_failing = False
        """The last write failed."""
        self.flush: Callable[[], None] = lambda: None
        """AuditLog.flush, set by whoever wires the two."""

    def schedule_flush(self) -> None:
        """Lines wait: have them flushed soon."""
        if not self._is_writing:
            asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self._flush)

    def write(self, lines: str) -> None:
        """Called by `flush`."""
        self._is_writing = True
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._write, lines)
        future.add_done_callback(partial(self._on_written, lines.count("\n")))

    def close(self) -> None:
        """Hand over what waits; the thread ends when it is written."""
        if self._is_open:
            self.flush()
        self._is_open = False
        self._executor.shutdown(wait=False)

    def _flush(self) -> None:
        if self._is_open and not self._is_writing:
            self.flush()

    def _on_written(self, count: int, future: asyncio.Future[None]) -> None:
        self._is_writing = False
        failed = future.cancelled() or future.exception() is not None
        if failed:
            self.lost_count += count
        if failed and not self.is_failing:
            logger.error("audit lines cannot be written: %s", type(future.exception()).__name__)
        self.is_failing = failed
        if self._is_open:
            self.schedule_flush()

    def _write(self, lines: str) -> None:
        stream = self._stream()
        stream.write(lines)
        stream.flush()
