"""The tables of a report."""

from typing import Any

import pytest

from bench.report import format_report


@pytest.fixture
def report() -> dict[str, Any]:
    def figures(value: float) -> dict[str, float]:
        return {"cpu per request, µs": value, "p99, ms": value / 10}

    peers = {"squid": figures(80), "nginx": figures(20), "ours": figures(100), "ours, watched": figures(700)}
    return {
        "machine": {"cpu": "a <fast> one", "cores": 2, "load": 0.5},
        "versions": {"squid": "5.7"},
        "rounds": 3,
        "results": {"warm, 8 clients": peers, "new connection": {**peers, "nginx": {}}},
        "failures": ["up: squid: refused"],
    }


def test_a_table_has_the_ratio_to_each_peer_and_the_report_names_failures(report: dict[str, Any]) -> None:
    text = format_report(report)
    row = next(line for line in text.splitlines() if line.startswith("  cpu per request"))
    assert row.split()[-2:] == ["1.25x", "5.00x"]
    assert "FAILED up: squid: refused" in text


def test_a_peer_without_a_figure_gets_a_dash(report: dict[str, Any]) -> None:
    row = [line for line in format_report(report).splitlines() if line.startswith("  cpu per request")][1]
    assert row.split()[-1] == "-"
