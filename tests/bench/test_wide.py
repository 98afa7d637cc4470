"""A small run with Connectors that have nothing in common. The full run has 5,000."""

import os
import shutil

import pytest

from bench.testbed import open_testbed
from bench.wide import run_on_folder

CONNECTORS = 20


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the target of the testbed needs Go")
def test_each_caller_reaches_the_target_of_its_connector() -> None:
    with open_testbed() as testbed:
        figures = run_on_folder(testbed, CONNECTORS, CONNECTORS)
    for name in ("tunnel, first", "tunnel, again", "alias"):
        assert figures[name]["failed"] == {}
        assert figures[name]["cpu per call, µs"] > 0
    assert figures["scrape"]["series"] > 3 * CONNECTORS
