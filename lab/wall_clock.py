"""Wall clock of programs that a test moves while they run, by libfaketime.

Only programs with `environment` have this clock. Their monotonic clock, and the times of files, stay the machine's.
libfaketime does not work with libuv, so a proxy with this clock runs on asyncio's event loop.
"""

import time
from pathlib import Path

DAY = 24 * 3600


def find_libfaketime() -> Path | None:
    """Return the library for programs with threads, or None if it is not installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


class WallClock:
    """Offset of the wall clock of all programs that run with `environment`."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.seconds = 0
        self.move(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def move(self, seconds: int) -> None:
        """Set the offset from the machine's clock."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{seconds:+d}\n")
        draft.replace(self._file)
        self.seconds = seconds

    def now(self) -> float:
        return time.time() + self.seconds


def remove_shared_memory() -> None:
    """Remove what libfaketime leaves when a process ends by a signal."""
    for path in Path("/dev/shm").glob("*faketime_*"):  # noqa: S108 - where libfaketime creates them
        if not Path("/proc", path.name.rpartition("_")[2]).exists():
            path.unlink(missing_ok=True)
