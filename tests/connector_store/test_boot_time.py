"""The boot-time clock runs and cannot be set."""

import time

from connector_store.boot_time import boot_time


def test_it_advances_and_includes_the_time_of_the_monotonic_clock() -> None:
    first = boot_time()
    assert first <= boot_time()
    assert first >= time.clock_gettime(time.CLOCK_MONOTONIC) - 1
