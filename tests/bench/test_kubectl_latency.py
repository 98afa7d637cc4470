"""The duration of a kubectl call, on a real API server, and its figures."""

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
from lab.process import complete_lines
from lab.waiting import wait_until


def test_kubectl_lists_objects_in_all_ways(control_plane: ControlPlane, tmp_path: Path) -> None:
    by_way = measure(control_plane, tmp_path, calls=2)
    assert set(by_way) == {ALONE, SERVER, CONNECT, DIRECT}
    assert all(0 < figures["median, ms"] <= figures["p90, ms"] for figures in by_way.values())

    def all_are_audited() -> bool:
        events = [json.loads(line) for line in complete_lines(control_plane.audit_log)]
        lists = [event.get("objectRef", {}) for event in events if event["verb"] == "list"]
        requests = [ref for ref in lists if (ref.get("namespace"), ref.get("resource")) == (NAMESPACE, "configmaps")]
        return len(requests) >= 3 * (WARM_UP_CALLS + 2)

    wait_until(all_are_audited, "the lists in the audit log")


def test_the_ways_take_turns_and_the_first_calls_are_not_counted() -> None:
    calls: list[str] = []

    def call(way: str) -> str:
        calls.append(way)
        return way

    figures = time_calls({way: partial(call, way) for way in "ab"}, 3)
    assert calls == ["a", "b"] * (WARM_UP_CALLS + 3)
    assert set(figures) == {"a", "b"}


def test_a_call_that_fails_stops_the_measurement() -> None:
    def fails() -> str:
        raise subprocess.CalledProcessError(1, "kubectl")

    with pytest.raises(subprocess.CalledProcessError):
        time_calls({"a": fails}, 1)


def test_the_figures_are_the_median_and_the_90th_percentile() -> None:
    assert summarize([float(number) for number in range(11)]) == {"median, ms": 5.0, "p90, ms": 9.0}
