"""The tables and pictures of docs/performance.md are what bench/figures says."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.memory import Growth, make_cases, to_json
from bench.pages import DOCS, FIGURES, PAGE, PICTURES, TABLES, before, drawn, memory, shown, written


def test_the_page_is_as_it_would_be_written() -> None:
    """If not: python -m bench.pages."""
    assert PAGE.read_text() == written(PAGE.read_text())


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_are_as_they_would_be_drawn(name: str) -> None:
    assert (DOCS / name).read_text() == drawn(name)


def test_the_page_has_each_table() -> None:
    assert [name for name in TABLES if f"<!-- {name} -->" not in PAGE.read_text()] == []


def test_what_stood_in_a_table_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    machine = {"product": "1.2.3", "cpu": "a fast one", "cores": 2, "load": 0.25}
    report = {"machine": machine, "calls": 3, "ways": {"CONNECT": {"median, ms": 61.25, "p90, ms": 1234.5}}}
    (tmp_path / "kubectl.json").write_text(json.dumps(report))
    table = "| of 3 calls each | median | p90 |\n|---|---|---|\n| CONNECT | 61.2 ms | 1,234 ms |\n"
    table += "\n1.2.3 on a fast one, 2 cores, load 0.2.\n"
    for old in ("", "| an old | table |\n\n"):
        page = f"before\n<!-- kubectl -->\n{old}<!-- end -->\nafter <!-- note -->\n"
        assert written(page, tmp_path) == f"before\n<!-- kubectl -->\n{table}<!-- end -->\nafter <!-- note -->\n"


def test_a_table_that_nobody_makes_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        written("<!-- nothing -->\n<!-- end -->\n", FIGURES)


@pytest.mark.parametrize(
    ("value", "figure", "text"),
    [
        (149.4, "cpu per request, µs", "149 µs"),
        (2.345, "a role of 50 rules, µs more", "2.35 µs"),
        (1248.4, "cpu per request, µs", "1.25 ms"),
        (18.44, "p99, ms", "18.4 ms"),
        (1405.98, "MB per second", "1,406 MB/s"),
        (97.5, "memory per stream, kB", "97.5 kB"),
    ],
)
def test_a_figure_has_three_digits_and_its_unit(value: float, figure: str, text: str) -> None:
    assert shown(value, figure) == text


def test_what_was_before_stands_beside_with_its_noise_and_what_is_worse_is_named() -> None:
    cpu, latency = "cpu per request, µs", "p50, ms"
    raw = {"warm, 8 clients": {"before": [{cpu: 100.0, latency: 1.0}], "ours": [{cpu: 90.0, latency: 2.0}]}}
    assert list(before({"raw": raw, "versions": {"before": "0.1.0"}})) == [
        "|  | 0.1.0 | ours | noise | ours to 0.1.0 |",
        "|---|---|---|---|---|",
        "| CPU of a small request, 8 clients | 100 µs | 90.0 µs | 10.0 µs | 0.90 |",
        "",
        "Of 2 figures 1 are worse by more than their noise: warm, 8 clients: p50, ms, 2.00.",
    ]
    (sentence,) = before({"raw": {}, "versions": {}})
    assert sentence.startswith("Not part of")


def test_memory_says_what_passed_and_leaves_out_what_failed() -> None:
    def row(name: str, **figures: Any) -> dict[str, Any]:
        known: dict[str, Any] = {"limit": 30, "passed": 0, "seconds": 1}
        return to_json(Growth(name=name, megabytes=2.0, **known | figures))

    rows = [row("down", passed=5_000_000_000), row("watch", events=1_000_000), row("idle", streams=2000),
            row("intercepted", passed=100), row("up", problem="grew")]  # fmt: skip
    assert list(memory(rows))[2:] == [
        "| 5 GB: down to a slow reader | 2.0 MB |",
        "| 1,000,000 events of one watch | 2.0 MB |",
        "| 2,000 idle watches | 2.0 MB, 1.00 kB each |",
        "| an upload that a person holds in mitmweb | 2.0 MB |",
    ]


def test_each_case_of_memory_has_its_words() -> None:
    rows = [to_json(Growth(name=case.name, megabytes=1, limit=1, bytes_passed=1, seconds=1))
            for case in make_cases(size=1, events=1, streams=1)]  # fmt: skip
    assert len(list(memory(rows))) == 2 + len(rows)
