"""Small runs of the memory cases; the docs have the figures of full runs."""

import os
import shutil
from collections.abc import Iterator

import pytest

from bench.memory import GB, MB, Growth, MemoryCase, format_row, make_cases, measure_growth, select_cases, to_json
from bench.testbed import Testbed, open_testbed

CASES = make_cases(size=100_000_000, events=30_000, streams=200)
MAX_MEASUREMENTS = 3
"""Maximum number of measurements. A busy machine can only make one worse."""
SMALL = ("down", "up", "exec-websocket", "exec-spdy", "watch", "idle")
"""The other cases wait for timeouts; tests/addons tests them with shorter ones."""


@pytest.fixture(scope="module")
def testbed() -> Iterator[Testbed]:
    with open_testbed() as running:
        yield running


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go")
@pytest.mark.parametrize("case", [case for case in CASES if case.name in SMALL], ids=lambda case: case.name)
def test_memory_stays_flat(testbed: Testbed, case: MemoryCase) -> None:
    growth = measure_growth(testbed, case)
    for _ in range(MAX_MEASUREMENTS - 1):
        if not growth.problem:
            break
        growth = measure_growth(testbed, case)
    assert not growth.problem, f"{growth.name} grew by {growth.megabytes:.1f} MB: {growth.problem}"
    assert growth.bytes_passed or growth.events or case.mode == "idle"


@pytest.mark.parametrize(
    ("quick", "size", "plain", "others"),
    [
        pytest.param(False, None, 5 * GB, GB, id="full run: five gigabytes down and up, one in the others"),
        pytest.param(False, 2, 2 * GB, 2 * GB, id="full run with a size: the same in all"),
        pytest.param(True, None, 100 * MB, 100 * MB, id="quick run: a tenth of a gigabyte in all"),
    ],
)
def test_the_size_of_the_transfers(quick: bool, size: int | None, plain: int, others: int) -> None:
    sizes = {case.name: case.flags["bytes"] for case in select_cases(quick=quick, size=size) if "bytes" in case.flags}
    assert {name: sizes.pop(name) for name in ("down", "up")} == {"down": plain, "up": plain}
    assert set(sizes.values()) == {others}


def test_the_row_of_a_watch_has_its_events() -> None:
    row = Growth(name="watch", megabytes=0.5, limit=30, bytes_passed=0, events=1_000_000, seconds=4.2)
    assert "1,000,000 events passed" in format_row(row)
    assert to_json(row)["events"] == 1_000_000


def test_the_row_of_a_transfer_has_its_bytes() -> None:
    row = Growth(name="down", megabytes=0.5, limit=30, bytes_passed=5 * GB, seconds=36)
    assert "5,000 MB passed" in format_row(row)
    assert to_json(row)["bytes"] == 5 * GB
