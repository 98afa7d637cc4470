"""Resident memory while much passes, small: the programs are those of the full runs, whose figures are in the docs."""

import os
import shutil
from collections.abc import Iterator

import pytest

from bench.memory import MemoryCase, grow, memory_cases
from bench.place import Place, place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go"),
]

CASES = memory_cases(size=100_000_000, events=30_000, streams=200)
SMALL = ("down", "up", "exec-websocket", "exec-spdy", "watch", "idle")
"""The others wait for their ends: tests/addons has them, with shorter times."""


@pytest.fixture(scope="module")
def scene() -> Iterator[Place]:
    with place() as made:
        yield made


@pytest.mark.parametrize("case", [each for each in CASES if each.name in SMALL], ids=lambda case: case.name)
def test_it_stays_flat(scene: Place, case: MemoryCase) -> None:
    grown = grow(scene, case)
    assert not grown.problem, f"{grown.name} grew by {grown.grown:.1f} MB: {grown.problem}"
