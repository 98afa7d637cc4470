"""A small run with Connectors that have nothing in common. The full run has 5,000."""

import asyncio
import os
import shutil

import pytest

from bench.peers.connector_proxy import start_proxy
from bench.testbed import open_testbed
from bench.wide import measure

CONNECTORS = 20


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the target of the testbed needs Go")
def test_each_caller_reaches_the_target_of_its_connector() -> None:
    with open_testbed() as testbed:
        endpoint = start_proxy(testbed, name="wide")
        try:
            figures = asyncio.run(measure(endpoint, testbed.make_folder("targets"), CONNECTORS))
        finally:
            endpoint.process.stop()
    for name in ("tunnel, first", "tunnel, again", "alias"):
        assert figures[name]["failed"] == {}
        assert figures[name]["cpu per call, µs"] > 0
    assert figures["scrape"]["series"] > 3 * CONNECTORS
