"""The summary of all figures: the programs that are run, the summary of their reports, and the tables of the docs."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench import publish
from bench.checkout import ROOT
from bench.publish import STEPS, SUMMARY, dump, format_results, summarize

PAGES = (ROOT / "docs" / "performance.md", ROOT / "bench" / "RESULTS.md")
TABLE = re.compile(r"<!-- [a-z ]+ -->\n(.*?)<!-- end -->", re.DOTALL)
FIGURE = re.compile(r"([\d,]*\d(?:\.\d+)?) (?:µs|ms|s|MB/s|MB|kB)\b")
CPU = "cpu per request, µs"


def test_all_steps_take_less_than_three_quarters_of_an_hour() -> None:
    assert sum(step.minutes for step in STEPS) <= 45


def test_only_the_comparison_runs_another_checkout() -> None:
    commands = {step.name: step.command(Path("x"), quick=False, before=Path("y")) for step in STEPS}
    assert [name for name, command in commands.items() if "--before" in command] == ["comparison"]
    assert all(command[-2:] == ["--json", f"x/{name}.json"] for name, command in commands.items())


def test_the_last_lines_have_the_exit_code_of_each_step() -> None:
    assert [" ".join(line.split()) for line in format_results({"comparison": (1, 90.0), "trips": (0, 6.0)})] == [
        "", "comparison 1.5 min exit code 1: see above", "trips 0.1 min ok",
    ]  # fmt: skip


def test_an_unknown_step_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        publish.main(["--only", "comparison,nothing"])
    assert "no such step: nothing" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go")
def test_a_quick_run_leaves_its_report_and_not_the_summary(tmp_path: Path) -> None:
    before = SUMMARY.read_text()
    assert publish.main(["--quick", "--only", "trips", "--folder", str(tmp_path)]) in (0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["trips.json"]
    assert SUMMARY.read_text() == before


def test_the_summary_of_a_comparison_has_medians_and_noise() -> None:
    report = {
        "machine": {"cores": 2}, "versions": {"before": "0.1.0"}, "rounds": 2, "failures": [],
        "results": {"warm": {"ours": {CPU: 95.0, "p50, ms": 1.0}, "before": {CPU: 100.0}, "squid": {}}},
        "raw": {"warm": {"ours": [{CPU: 90.0}, {CPU: 100.0}], "before": [{CPU: 100.0}, {CPU: 100.0}]}},
    }  # fmt: skip
    assert summarize("comparison", report) == {
        "machine": {"cores": 2}, "versions": {"before": "0.1.0"}, "rounds": 2,
        "figures": {"warm": {CPU: {"ours": 95.0, "before": 100.0, "noise": 10.0}}},
    }  # fmt: skip


def test_the_summary_of_trips_has_calls_and_files() -> None:
    assert summarize("trips", {"GET": {"a.py": 2.0, "b.py": 1.5}}) == {"GET": {"calls": 3.5, "files": 2}}


def test_the_summary_of_memory_has_the_growth_and_what_passed() -> None:
    row: dict[str, Any] = {"name": "down", "grown_mb": 0.0, "limit_mb": 30, "bytes": 5, "events": 0, "streams": 0}
    assert summarize("memory", [row]) == {"down": {"grown_mb": 0.0, "bytes": 5}}


def test_the_summary_of_a_soak_counts_its_exchanges() -> None:
    resources = {"fds": 19, "tasks": 9, "rss_mb": 91.2, "threads": 11}
    report = {
        "clients": 2, "seconds": 5, "unexplained": 0, "outcomes": {"get": {"ok": 3, "reset": 1}, "watch": {"ok": 2}},
        "before": resources, "after": resources, "gauge": {"callbacks": 7, "longest_own": 3.0, "stalls": {}},
    }  # fmt: skip
    summary = summarize("soak", report)
    assert (summary["exchanges"], summary["loop"]) == (6, {"callbacks": 7, "longest_own": 3.0})
    assert summary["before"] == {"fds": 19, "tasks": 9, "rss_mb": 91.2}


def test_an_innermost_object_is_on_one_line() -> None:
    text = dump({"a": {"b": {"µs": 1.23456789, "runs": [1, 2]}}, "c": "d"})
    assert text == '{\n "a": {\n  "b": {"µs": 1.23457, "runs": [1, 2]}\n },\n "c": "d"\n}'
    assert json.loads(text)["a"]["b"]["runs"] == [1, 2]


def test_the_summary_is_as_it_would_be_written() -> None:
    text = SUMMARY.read_text()
    assert dump(json.loads(text)) + "\n" == text


def test_every_figure_in_the_tables_of_the_docs_is_in_the_summary() -> None:
    """If not, copy it from bench/figures.json."""
    published = {text for number in numbers_in(json.loads(SUMMARY.read_text())) for text in roundings(number)}
    tables = [table for page in PAGES for table in TABLE.findall(page.read_text())]
    figures = [
        figure for table in tables for line in table.splitlines() if "|" in line for figure in FIGURE.findall(line)
    ]
    assert len(figures) > 100
    assert [figure for figure in figures if figure not in published] == []


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return [number for child in children for number in numbers_in(child)]
    return [value] if isinstance(value, int | float) else []


def roundings(number: float) -> list[str]:
    """Return the number with at most two decimals, in its unit and in the next larger one (1,553 µs is 1.55 ms)."""
    return [f"{value:,.{digits}f}" for value in (number, number / 1000) for digits in (0, 1, 2)]
