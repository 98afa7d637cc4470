"""The goals of the comparison, with invented reports."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import pytest

from bench.__main__ import exit_code
from bench.access_decision import ACCESS_COST, measure_access
from bench.cases import make_cases
from bench.decision import DECISION, PLAIN_COST, ROLE_COST, measure_decision
from bench.goals import GOALS, Goal, evaluate, format_results
from bench.measure import Measurement

CPU, SPEED, LATENCY, MEMORY = "cpu per request, µs", "MB per second", "p99, ms", "memory per stream, kB"
TARGET = "target cpu per request, µs"
Results = dict[str, dict[str, dict[str, float]]]


def make_results(**changes: dict[str, dict[str, float]]) -> Results:
    """Return figures that meet each goal exactly."""
    return {
        "warm, 8 clients": {"squid": {CPU: 100}, "nginx": {CPU: 20}, "ours": {CPU: 110}},
        "warm, 100 clients": {
            "squid": {LATENCY: 10},
            "tuned squid": {CPU: 60},
            "nginx": {LATENCY: 5},
            "ours": {LATENCY: 12, CPU: 78},
        },
        "new connection": {
            "squid": {CPU: 600, TARGET: 100},
            "tuned squid": {CPU: 680},
            "nginx": {},
            "ours": {CPU: 880, TARGET: 150},
        },
        "direct, new connection": {"ours": {CPU: 660}},
        "down": {"nginx": {SPEED: 680}, "no proxy": {SPEED: 800}, "ours": {SPEED: 680}},
        "idle watches": {"squid": {MEMORY: 80}, "nginx": {MEMORY: 50}, "ours": {MEMORY: 90}},
        DECISION: {"ours": {ROLE_COST: 3, ACCESS_COST: 2}},
        **changes,
    }


def without_peers(results: Results, *peers: str) -> Results:
    return {
        case: {peer: figures for peer, figures in by_peer.items() if peer not in peers}
        for case, by_peer in results.items()
    }


def missed_goals(results: Results) -> list[tuple[str, str]]:
    return [(result.goal.case, result.goal.peer) for result in evaluate(results) if not result.met]


def test_a_figure_at_its_limit_meets_the_goal() -> None:
    assert len(evaluate(make_results())) == len(GOALS)
    assert not missed_goals(make_results())


@pytest.mark.parametrize(
    ("case", "ours", "peers"),
    [
        pytest.param("warm, 8 clients", {CPU: 111}, ["squid"], id="CPU of a warm request"),
        pytest.param("new connection", {CPU: 901, TARGET: 150}, ["squid", "tuned squid"], id="CPU of a new connection"),
        pytest.param("new connection", {CPU: 885, TARGET: 150}, ["tuned squid"], id="CPU next to a tuned squid"),
        pytest.param("new connection", {CPU: 880, TARGET: 151}, ["squid"], id="CPU of the target"),
        pytest.param("direct, new connection", {CPU: 661}, ["squid", "ours"], id="CPU of direct access"),
        pytest.param("warm, 100 clients", {LATENCY: 12.1}, ["squid"], id="p99"),
        pytest.param("warm, 100 clients", {CPU: 79}, ["tuned squid"], id="CPU of a busy proxy"),
        pytest.param("down", {SPEED: 679}, ["nginx", "no proxy"], id="speed of a download"),
        pytest.param("idle watches", {MEMORY: 91}, [""], id="memory of an idle stream"),
        pytest.param(DECISION, {ROLE_COST: 3.1, ACCESS_COST: 2}, [""], id="time for permissions"),
        pytest.param(DECISION, {ROLE_COST: 3, ACCESS_COST: 2.1}, [""], id="time for access objects"),
    ],
)
def test_a_figure_beyond_its_limit_misses_the_goal(case: str, ours: dict[str, float], peers: list[str]) -> None:
    results = make_results()
    results[case]["ours"] = ours
    assert missed_goals(results) == [(case, peer) for peer in peers]


@pytest.mark.parametrize(
    ("speed", "peers"),
    [
        pytest.param({"no proxy": 700, "nginx": 600, "ours": 599}, ["nginx"], id="slower than nginx"),
        pytest.param({"no proxy": 900, "nginx": 600, "ours": 700}, ["no proxy"], id="a fifth slower than no proxy"),
        pytest.param({"no proxy": 900, "nginx": 600, "ours": 800}, [], id="a tenth slower than no proxy"),
    ],
)
def test_a_download_is_compared_with_each_peer(speed: Mapping[str, float], peers: list[str]) -> None:
    results = make_results(down={peer: {SPEED: value} for peer, value in speed.items()})
    assert missed_goals(results) == [("down", peer) for peer in peers]


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        pytest.param(["squid", "tuned squid"], {"nginx", "no proxy", "ours", ""}, id="without squid"),
        pytest.param(["nginx"], {"squid", "tuned squid", "no proxy", "ours", ""}, id="without nginx"),
        pytest.param(["squid", "tuned squid", "nginx", "no proxy"], {"ours", ""}, id="ours alone"),
        pytest.param(["ours"], set(), id="without ours"),
    ],
)
def test_a_goal_needs_both_figures(absent: list[str], expected: set[str]) -> None:
    assert {result.goal.peer for result in evaluate(without_peers(make_results(), *absent))} == expected


def test_a_peer_whose_runs_all_failed_has_no_result() -> None:
    results = make_results()
    results["new connection"]["squid"] = results["new connection"]["tuned squid"] = {}
    assert "new connection" not in {result.goal.case for result in evaluate(results)}


def test_a_line_has_figure_ratio_limit_and_result() -> None:
    results = make_results()
    results["warm, 8 clients"]["ours"] = {CPU: 150}
    text = [" ".join(line.split()) for line in format_results(evaluate(results))]
    assert text[0] == "warm, 8 clients: cpu per request, µs 150 1.500x at most 1.1 x squid's MISSED"
    assert text[6] == "direct, new connection: cpu per request, µs 660 1.100x at most 1.1 x squid's new connection met"
    assert text[-3] == "idle watches: memory per stream, kB 90 - at most 90 met"


def test_the_report_has_each_goal_with_its_figures() -> None:
    assert evaluate(make_results())[0].to_json() == {
        "case": "warm, 8 clients", "figure": CPU, "bound": "at most", "limit": 1.1, "peer": "squid",
        "peer_case": "", "ours": 110, "theirs": 100, "ratio": 1.1, "met": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cpu", "quick", "code"),
    [
        pytest.param({CPU: 110.0}, False, 0, id="a full run that meets all goals succeeds"),
        pytest.param({CPU: 111.0}, False, 1, id="a full run that misses a goal fails"),
        pytest.param({CPU: 111.0}, True, 0, id="a quick run that misses a goal succeeds"),
        pytest.param({}, True, 1, id="a quick run without a figure fails"),
    ],
)
def test_the_exit_code(cpu: dict[str, float], quick: bool, code: int) -> None:
    results = without_peers(make_results(), "nginx")
    results["warm, 8 clients"]["ours"] = cpu
    goals = [result.to_json() for result in evaluate(results)]
    assert exit_code({"results": results, "goals": goals, "worse": []}, quick=quick) == code


def test_a_full_run_that_is_worse_than_before_fails() -> None:
    report: dict[str, Any] = {"results": {}, "goals": [], "worse": [{"figure": CPU}]}
    assert exit_code(report, quick=False) == 1
    assert exit_code(report, quick=True) == 0


@pytest.mark.parametrize(
    "goal",
    [goal for goal in GOALS if goal.case != DECISION],
    ids=lambda goal: f"{goal.case}, {goal.bound} {goal.limit} {goal.peer}".strip(),
)
def test_each_goal_is_for_a_figure_that_is_measured(goal: Goal) -> None:
    result = {
        "requests": 1, "errors": 0, "p50_ms": 1, "p99_ms": 1, "bytes": 1, "mb_per_s": 1, "ended": 0, "streams": 1,
    }  # fmt: skip
    measurement = Measurement(
        result=result, seconds=1, proxy_cpu=1, client_cpu=1, target_cpu=1, rss_before=0, rss_peak=0, rss_after=0
    )
    case = next(case for case in make_cases(seconds=1, size=1, streams=1) if case.name == goal.case)
    assert goal.figure in case.figures(measurement)


def test_the_time_of_a_decision_is_measured() -> None:
    figures = measure_decision()
    assert figures[PLAIN_COST] > 0
    assert isfinite(figures[ROLE_COST])


def test_the_time_for_access_objects_is_measured() -> None:
    assert isfinite(measure_access(policies=10, grants=10)[ACCESS_COST])
