"""Writer of audit lines that does not block the event loop if the output is not read."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TextIO

logger = logging.getLogger(__name__)

FLUSH_INTERVAL: Final = 0.05
"""Seconds from the first pending line, or the end of a write, to the next write. Lines of that time share a write."""


class AuditWriter:
    """Writer with a thread for one write at a time. Meanwhile, the audit log buffers further lines."""

    def __init__(self, stream: Callable[[], TextIO]) -> None:
        self._stream = stream
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="connector-audit")
        self._is_writing = False
        self._is_open = True
        self.lost_count = 0
        """Number of lines that could not be written."""
        self.is_failing = False
        """The last write failed."""
        self.flush: Callable[[], None] = lambda: None
        """`AuditLog.flush`, set by the code that connects the two."""

    def schedule_flush(self) -> None:
        """Schedule a call of `flush`, unless a write is running."""
        if not self._is_writing:
            asyncio.get_running_loop().call_later(FLUSH_INTERVAL, self._flush)

    def write(self, lines: str) -> None:
        """Write `lines` on the thread. `flush` calls this."""
        self._is_writing = True
        future = asyncio.get_running_loop().run_in_executor(self._executor, self._write, lines)
        future.add_done_callback(partial(self._on_written, lines))

    def close(self) -> None:
        """Flush the pending lines. The thread ends after the last write."""
        if self._is_open:
            self.flush()
        self._is_open = False
        self._executor.shutdown(wait=False)

    def _flush(self) -> None:
        if self._is_open and not self._is_writing:
            self.flush()

    def _on_written(self, lines: str, future: asyncio.Future[None]) -> None:
        self._is_writing = False
        failed = future.cancelled() or future.exception() is not None
        if failed:
            self.lost_count += lines.count("\n")
        if failed and not self.is_failing:
            logger.error("audit lines cannot be written: %s", type(future.exception()).__name__)
        self.is_failing = failed
        if self._is_open:
            self.schedule_flush()

    def _write(self, lines: str) -> None:
        stream = self._stream()
        stream.write(lines)
        stream.flush()
