"""Clock for times that must pass while the machine sleeps, such as the end of a caller's access."""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""CLOCK_BOOTTIME of Linux also runs while a laptop sleeps. CLOCK_MONOTONIC of macOS does the same."""

boot_time: Final[Callable[[], float]] = partial(time.clock_gettime, _CLOCK)
"""Return the seconds since the start of the machine, with those in which it slept. This clock cannot be set."""
