"""Progress of long commands, on stderr: on a terminal one line that is drawn again, elsewhere a line now and then."""

import math
import shutil
import sys
import time
from collections.abc import Callable
from typing import Final

REPORT_INTERVAL: Final = 10.0
"""Seconds between two reports."""
REDRAW_INTERVAL: Final = 1.0
"""Seconds between two reports on a terminal."""
MAX_LINE: Final = 100
"""Maximum number of characters of the command's own line in a report."""
BAR_WIDTH: Final = 30
CLEAR_LINE: Final = "\r\033[K"
"""Control sequence: cursor to the start of the line, clear the line (ECMA-48 EL)."""


def report_progress(message: str) -> None:
    """Print to stderr, because callers read stdout for the result."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def render_bar(count: int, total: int, seconds: float, text: str) -> str:
    """Return `[####....] TEXT, 2 min left`. `seconds` is the time that `count` of `total` took."""
    filled = BAR_WIDTH * count // total
    seconds_left = seconds * (total - count) / count
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {text}, {math.ceil(seconds_left / 60)} min left"


class CommandProgress:
    """Progress of a command that prints a line for each `unit`. `total` is the maximum number of lines, if known."""

    def __init__(self, unit: str, total: int | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._unit = unit
        self._total = total
        self._now = now
        self._is_terminal = sys.stderr.isatty()
        self._started_at = self._reported_at = now()
        self._count = 0

    def add_line(self, line: str) -> None:
        """Count a line, and report if it is time to."""
        self._count += 1
        now = self._now()
        if now - self._reported_at < (REDRAW_INTERVAL if self._is_terminal else REPORT_INTERVAL):
            return
        self._reported_at = now
        if self._is_terminal:
            self._redraw(self._render(line, now - self._started_at)[: shutil.get_terminal_size().columns - 3])
        else:
            report_progress(f"  {self._describe_with(line)}")

    def end(self) -> None:
        """Remove the line of the progress from a terminal."""
        if self._is_terminal:
            self._redraw("")

    def _render(self, line: str, seconds: float) -> str:
        if self._total is None or self._count > self._total:
            return self._describe_with(line)
        return render_bar(self._count, self._total, seconds, self._describe())

    def _describe_with(self, line: str) -> str:
        return f"{self._describe()}, now {line[:MAX_LINE]}"

    def _describe(self) -> str:
        return f"{self._count} {'' if self._total is None else f'of at most {self._total} '}{self._unit}"

    def _redraw(self, text: str) -> None:
        sys.stderr.write(f"{CLEAR_LINE}{text and f'  {text}'}")
        sys.stderr.flush()
