"""The goals, on reports that are made up."""

from collections.abc import Mapping
from typing import Any

import pytest

from bench.__main__ import exit_code
from bench.cases import cases
from bench.goals import GOALS, judge, lines
from bench.measure import Measurement

CPU, SPEED, LATENCY, WEIGHT = "cpu per request, µs", "MB per second", "p99, ms", "memory per stream, kB"
Results = dict[str, dict[str, dict[str, float]]]


def results() -> Results:
    """Each goal is met exactly."""
    return {
        "warm, 8 clients": {"squid": {CPU: 100}, "nginx": {CPU: 20}, "ours": {CPU: 130}},
        "warm, 100 clients": {"squid": {LATENCY: 10}, "nginx": {LATENCY: 5}, "ours": {LATENCY: 20}},
        "new connection": {"squid": {CPU: 500}, "nginx": {}, "ours": {CPU: 2000}},
        "down": {"squid": {SPEED: 400}, "nginx": {SPEED: 600}, "ours": {SPEED: 600}},
        "idle watches": {"squid": {WEIGHT: 80}, "nginx": {WEIGHT: 50}, "ours": {WEIGHT: 150}},
    }


def without(results: Results, *peers: str) -> Results:
    return {
        case: {peer: figures for peer, figures in by_peer.items() if peer not in peers}
        for case, by_peer in results.items()
    }


def missed(results: Results) -> list[tuple[str, str]]:
    return [(verdict.goal.case, verdict.goal.peer) for verdict in judge(results) if not verdict.met]


def test_what_is_exactly_at_its_limit_is_met() -> None:
    assert len(judge(results())) == len(GOALS)
    assert not missed(results())


@pytest.mark.parametrize(
    ("case", "ours", "misses"),
    [
        pytest.param("warm, 8 clients", {CPU: 131}, ["squid"], id="a warm request takes over 1.3 times squid's CPU"),
        pytest.param("new connection", {CPU: 2001}, ["squid"], id="a new connection takes over 4 times squid's CPU"),
        pytest.param("warm, 100 clients", {LATENCY: 20.1}, ["squid"], id="the p99 is more than twice squid's"),
        pytest.param("down", {SPEED: 599}, ["nginx", "squid"], id="a download is slower than through both"),
        pytest.param("idle watches", {WEIGHT: 151}, [""], id="an idle stream weighs more than 150 kB"),
    ],
)  # fmt: skip
def test_beyond_its_limit_a_goal_is_missed(case: str, ours: dict[str, float], misses: list[str]) -> None:
    found = results()
    found[case]["ours"] = ours
    assert missed(found) == [(case, peer) for peer in misses]


@pytest.mark.parametrize(
    ("speed", "misses"),
    [
        pytest.param({"squid": 300, "nginx": 600, "ours": 599}, ["nginx"], id="a download slower than nginx's alone"),
        pytest.param({"squid": 500, "nginx": 600, "ours": 700}, ["squid"], id="a download less than 1.5 times squid's"),
        pytest.param({"squid": 500, "nginx": 600, "ours": 900}, [], id="a download faster than both"),
    ],
)
def test_a_download_is_held_against_each_peer_by_itself(speed: Mapping[str, float], misses: list[str]) -> None:
    found = {**results(), "down": {peer: {SPEED: value} for peer, value in speed.items()}}
    assert missed(found) == [("down", peer) for peer in misses]


@pytest.mark.parametrize(
    ("absent", "judged"),
    [
        pytest.param(["squid"], {"nginx", ""}, id="without squid only nginx and the plain limit count"),
        pytest.param(["nginx"], {"squid", ""}, id="without nginx only squid and the plain limit count"),
        pytest.param(["squid", "nginx"], {""}, id="alone there is only the plain limit"),
        pytest.param(["ours"], set(), id="without ours there is nothing to judge"),
    ],
)
def test_a_goal_needs_both_sides(absent: list[str], judged: set[str]) -> None:
    assert {verdict.goal.peer for verdict in judge(without(results(), *absent))} == judged


def test_a_peer_whose_runs_all_failed_gives_no_verdict() -> None:
    found = results()
    found["new connection"]["squid"] = {}
    assert "new connection" not in {verdict.goal.case for verdict in judge(found)}


def test_a_line_says_figure_ratio_wanted_and_verdict() -> None:
    found = results()
    found["warm, 8 clients"]["ours"] = {CPU: 150}
    text = [" ".join(line.split()) for line in lines(judge(found))]
    assert text[0] == "warm, 8 clients: cpu per request, µs 150 1.500x at most 1.3 x squid's MISSED"
    assert text[-1] == "idle watches: memory per stream, kB 150 - at most 150 met"


def test_the_report_has_each_goal_with_its_figures() -> None:
    assert judge(results())[0].plain() == {
        "case": "warm, 8 clients", "figure": CPU, "bound": "at most", "limit": 1.3, "peer": "squid",
        "ours": 130, "theirs": 100, "ratio": 1.3, "met": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cpu", "quick", "code"),
    [
        pytest.param({CPU: 130.0}, False, 0, id="a run in full that meets all is a success"),
        pytest.param({CPU: 131.0}, False, 1, id="a run in full that misses one is a failure"),
        pytest.param({CPU: 131.0}, True, 0, id="a quick run that misses one is a success"),
        pytest.param({}, True, 1, id="a quick run without a figure is a failure"),
    ],
)
def test_the_exit_code(cpu: dict[str, float], quick: bool, code: int) -> None:
    found = without(results(), "nginx")
    found["warm, 8 clients"]["ours"] = cpu
    report: dict[str, Any] = {"results": found, "goals": [verdict.plain() for verdict in judge(found)]}
    assert exit_code(report, quick=quick) == code


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.case}, {goal.bound} {goal.limit} {goal.peer}".strip())
def test_each_goal_is_about_a_figure_that_is_measured(goal: Any) -> None:
    result = {
        "requests": 1, "errors": 0, "p50_ms": 1, "p99_ms": 1, "bytes": 1, "mb_per_s": 1, "ended": 0, "streams": 1,
    }  # fmt: skip
    measured = Measurement(
        result=result, seconds=1, proxy_cpu=1, client_cpu=1, target_cpu=1, rss_before=0, rss_peak=0, rss_after=0
    )
    case = next(case for case in cases(seconds=1, size=1, streams=1) if case.name == goal.case)
    assert goal.figure in case.figures(measured)
