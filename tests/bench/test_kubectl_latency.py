"""What one call of kubectl takes, on a real API server, and how times become figures."""

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest

from bench.kubectl_latency import (
    ALONE,
    CONNECT,
    DIRECT,
    NAMESPACE,
    SERVER,
    WARM_UP_CALLS,
    measure,
    summarize,
    time_calls,
)
from lab.control_plane import ControlPlane


def test_kubectl_reads_in_all_ways(control_plane: ControlPlane, tmp_path: Path) -> None:
    found = measure(control_plane, tmp_path, calls=2)
    assert set(found) == {ALONE, SERVER, CONNECT, DIRECT}
    assert all(0 < each["median, ms"] <= each["p90, ms"] for each in found.values())
    events = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
    objects = [each.get("objectRef", {}) for each in events if each["verb"] == "list"]
    read = [each for each in objects if (each.get("namespace"), each.get("resource")) == (NAMESPACE, "configmaps")]
    assert len(read) >= 3 * (WARM_UP_CALLS + 2)


def test_the_ways_take_turns_and_the_first_calls_are_not_counted() -> None:
    asked: list[str] = []

    def ask(way: str) -> str:
        asked.append(way)
        return way

    found = time_calls({way: partial(ask, way) for way in "ab"}, 3)
    assert asked == ["a", "b"] * (WARM_UP_CALLS + 3)
    assert set(found) == {"a", "b"}


def test_a_call_that_fails_ends_it() -> None:
    def fails() -> str:
        raise subprocess.CalledProcessError(1, "kubectl")

    with pytest.raises(subprocess.CalledProcessError):
        time_calls({"a": fails}, 1)


def test_the_figures_are_the_median_and_what_nine_of_ten_do_not_exceed() -> None:
    assert summarize([float(each) for each in range(11)]) == {"median, ms": 5.0, "p90, ms": 9.0}
