"""Resident memory while much passes, small: the programs are those of the full runs, whose figures are in the docs."""

import os
import shutil
from collections.abc import Iterator

import pytest

from bench.memory import GB, MB, Growth, MemoryCase, format_row, make_cases, measure_growth, select_cases, to_json
from bench.testbed import Testbed, open_testbed

CASES = make_cases(size=100_000_000, events=30_000, streams=200)
SMALL = ("down", "up", "exec-websocket", "exec-spdy", "watch", "idle")
"""The others wait for their ends: tests/addons has them, with shorter times."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Testbed]:
    with open_testbed() as made:
        yield made


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go")
@pytest.mark.parametrize("case", [each for each in CASES if each.name in SMALL], ids=lambda case: case.name)
def test_it_stays_flat(scene: Testbed, case: MemoryCase) -> None:
    grown = measure_growth(scene, case)
    assert not grown.problem, f"{grown.name} grew by {grown.megabytes:.1f} MB: {grown.problem}"
    assert grown.bytes_passed or grown.events or case.mode == "idle"


@pytest.mark.parametrize(
    ("quick", "size", "plain", "others"),
    [
        pytest.param(False, None, 5 * GB, GB, id="in full, five gigabytes down and up and one in the others"),
        pytest.param(False, 2, 2 * GB, 2 * GB, id="in full with a size, as much in all"),
        pytest.param(True, None, 100 * MB, 100 * MB, id="quick, a tenth of a gigabyte in all"),
    ],
)
def test_how_much_passes(quick: bool, size: int | None, plain: int, others: int) -> None:
    sizes = {case.name: case.flags["bytes"] for case in select_cases(quick=quick, size=size) if "bytes" in case.flags}
    assert {name: sizes.pop(name) for name in ("down", "up")} == {"down": plain, "up": plain}
    assert set(sizes.values()) == {others}


def test_a_watch_is_told_by_its_events() -> None:
    row = Growth(name="watch", megabytes=0.5, limit=30, bytes_passed=0, events=1_000_000, seconds=4.2)
    assert "1,000,000 events passed" in format_row(row)
    assert to_json(row)["events"] == 1_000_000


def test_a_transfer_is_told_by_its_bytes() -> None:
    row = Growth(name="down", megabytes=0.5, limit=30, bytes_passed=5 * GB, seconds=36)
    assert "5,000 MB passed" in format_row(row)
    assert to_json(row)["bytes"] == 5 * GB
