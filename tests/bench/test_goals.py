"""The goals, on reports that are made up."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

import pytest

from bench import bounds, where
from bench.__main__ import exit_code
from bench.cases import make_cases
from bench.checkout import ROOT
from bench.decision import DECISION, PLAIN_COST, ROLE_COST, measure_decision
from bench.goals import GOALS, GoalResult, format_results
from bench.goals import evaluate as judged
from bench.measure import Measurement

CPU, SPEED, LATENCY, WEIGHT = "cpu per request, µs", "MB per second", "p99, ms", "memory per stream, kB"
TARGET = "target cpu per request, µs"
TRANSFER = ("client cpu per GB, s", "target cpu per GB, s", "cpu per GB, s")
Results = dict[str, dict[str, dict[str, float]]]


def judge(results: Results) -> tuple[GoalResult, ...]:
    return judged(results, cores=2)


def results() -> Results:
    """Each goal is met exactly."""
    return {
        "warm, 8 clients": {"squid": {CPU: 100}, "nginx": {CPU: 20}, "ours": {CPU: 110}},
        "warm, 100 clients": {"squid": {LATENCY: 10}, "nginx": {LATENCY: 5}, "ours": {LATENCY: 12}},
        "new connection": {"squid": {CPU: 600, TARGET: 100}, "nginx": {}, "ours": {CPU: 880, TARGET: 150}},
        "direct, new connection": {"ours": {CPU: 660}},
        "down": {"nginx": {SPEED: 680}, "no proxy": {SPEED: 800}, "ours": {SPEED: 680}},
        "idle watches": {"squid": {WEIGHT: 80}, "nginx": {WEIGHT: 50}, "ours": {WEIGHT: 90}},
        DECISION: {"ours": {ROLE_COST: 3}},
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
        pytest.param("warm, 8 clients", {CPU: 111}, ["squid"], id="a warm request takes over 1.1 times squid's CPU"),
        pytest.param("new connection", {CPU: 901, TARGET: 150}, ["squid"], id="a new connection takes over 1.5 times"),
        pytest.param("new connection", {CPU: 880, TARGET: 151}, ["squid"], id="the target has more to do by half"),
        pytest.param("direct, new connection", {CPU: 661}, ["squid", "ours"], id="without CONNECT it is hardly less"),
        pytest.param("warm, 100 clients", {LATENCY: 12.1}, ["squid"], id="the p99 is more than 1.2 times squid's"),
        pytest.param("down", {SPEED: 679}, ["nginx", "no proxy"], id="a download is slower than it may be"),
        pytest.param("idle watches", {WEIGHT: 91}, [""], id="an idle stream weighs more than 90 kB"),
        pytest.param(DECISION, {ROLE_COST: 3.1}, [""], id="permissions cost more than 3 µs"),
    ],
)  # fmt: skip
def test_beyond_its_limit_a_goal_is_missed(case: str, ours: dict[str, float], misses: list[str]) -> None:
    found = results()
    found[case]["ours"] = ours
    assert missed(found) == [(case, peer) for peer in misses]


@pytest.mark.parametrize(
    ("speed", "misses"),
    [
        pytest.param(
            {"no proxy": 700, "nginx": 600, "ours": 599}, ["nginx"], id="a download slower than nginx's alone"
        ),
        pytest.param({"no proxy": 900, "nginx": 600, "ours": 700}, ["no proxy"], id="a download that costs a fifth"),
        pytest.param({"no proxy": 900, "nginx": 600, "ours": 800}, [], id="a download that costs a tenth"),
    ],
)
def test_a_download_is_held_against_each_peer_by_itself(speed: Mapping[str, float], misses: list[str]) -> None:
    found = {**results(), "down": {peer: {SPEED: value} for peer, value in speed.items()}}
    assert missed(found) == [("down", peer) for peer in misses]


@pytest.mark.parametrize(
    ("absent", "judged"),
    [
        pytest.param(["squid"], {"nginx", "no proxy", "ours", ""}, id="without squid the others count"),
        pytest.param(["nginx"], {"squid", "no proxy", "ours", ""}, id="without nginx the others count"),
        pytest.param(["squid", "nginx", "no proxy"], {"ours", ""}, id="alone there are only our own"),
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
    text = [" ".join(line.split()) for line in format_results(judge(found))]
    assert text[0] == "warm, 8 clients: cpu per request, µs 150 1.500x at most 1.1 x squid's MISSED"
    assert text[4] == "direct, new connection: cpu per request, µs 660 1.100x at most 1.1 x squid's new connection met"
    assert text[-2] == "idle watches: memory per stream, kB 90 - at most 90 met"


def test_the_report_has_each_goal_with_its_figures() -> None:
    assert judge(results())[0].to_json() == {
        "case": "warm, 8 clients", "figure": CPU, "bound": "at most", "limit": 1.1, "peer": "squid",
        "peer_case": "", "ours": 110, "theirs": 100, "ratio": 1.1, "met": True, "why": "",
    }  # fmt: skip


def download(speed: float, client: float, target: float, proxy: float) -> dict[str, float]:
    return {SPEED: speed, **dict(zip(TRANSFER, (client, target, proxy), strict=True))}


@pytest.mark.parametrize(
    ("cores", "ours", "says"),
    [
        pytest.param(
            2, (0.5, 0.3, 1.2),
            "2 cores carry at most 833 MB/s at 0.50 s of CPU a GB in the client, 0.30 in the target and 1.20 in the "
            "proxy, 714 at nginx's 1.40; 1,190 would leave the proxy 0.88, and it has the TLS of both to do: needs 3 "
            "cores; one thread with 1.20 carries 833",
            id="two cores are too few, and one thread would be",
        ),
        pytest.param(
            2, (1.0, 0.6, 0.8),
            "2 cores carry at most 833 MB/s at 1.00 s of CPU a GB in the client, 0.60 in the target and 0.80 in the "
            "proxy, 667 at nginx's 1.40; 1,190 would leave the proxy 0.08, and it has the TLS of both to do: needs 3 "
            "cores",
            id="two cores are too few, and one thread is enough",
        ),
        pytest.param(
            8, (0.5, 0.3, 1.2),
            "8 cores carry at most 833 MB/s at 0.50 s of CPU a GB in the client, 0.30 in the target and 1.20 in the "
            "proxy, 714 at nginx's 1.40; 1,190 would leave the proxy 5.92, and it has the TLS of both to do; "
            "one thread with 1.20 carries 833",
            id="the cores are enough, and one thread is not",
        ),
        pytest.param(
            8, (0.5, 0.3, 0.8),
            "8 cores carry at most 1,250 MB/s at 0.50 s of CPU a GB in the client, 0.30 in the target and 0.80 in the "
            "proxy, 714 at nginx's 1.40; that is enough for 1,190, so it is something else",
            id="arithmetic does not exclude it",
        ),
    ],
)  # fmt: skip
def test_a_download_that_is_slower_than_it_may_be_says_what_the_cores_carry(
    cores: int, ours: tuple[float, float, float], says: str
) -> None:
    found = results()
    found["down"] = {
        "nginx": download(500, 0.5, 0.3, 1.4), "no proxy": {SPEED: 1400}, "ours": download(600, *ours),
    }  # fmt: skip
    (verdict,) = [each for each in judged(found, cores=cores) if not each.met]
    assert verdict.why == says
    assert f"because {says}" in "".join(format_results([verdict]))
    assert verdict.to_json()["why"] == says


def test_without_nginx_a_download_says_nothing_of_it() -> None:
    found = {"down": {"no proxy": {SPEED: 1400.0}, "ours": download(600, 0.5, 0.3, 1.2)}}
    assert "nginx" not in bounds.of_a_download(found, 2)
    assert bounds.of_a_download(found, 2)


def test_a_proxy_that_costs_nothing_is_bound_by_the_others() -> None:
    assert bounds.most(1, 1, 0, 2) == 1000
    assert bounds.most(0, 0, 0, 2) == float("inf")


@pytest.mark.parametrize("found", [{}, {"down": {"ours": {SPEED: 1.0}}}, {"new connection": {"ours": {CPU: 1.0}}}])
def test_without_figures_there_is_no_reason(found: Results) -> None:
    assert not bounds.of_a_download(found, 2)
    assert not bounds.of_the_direct_door(found, 2)
    assert not bounds.of_a_download_beside_nginx(found, 2)
    assert not bounds.of_the_tail(found, 2)
    assert not bounds.of_a_new_connection(found, 2)


@pytest.mark.parametrize(
    ("direct", "share"),
    [
        pytest.param(836, "5%", id="a twentieth"),
        pytest.param(890, "less than the noise", id="nothing that can be seen"),
    ],
)
def test_the_direct_door_that_is_hardly_cheaper_says_what_connect_is(direct: float, share: str) -> None:
    found = results()
    found["direct, new connection"]["ours"] = {CPU: direct}
    (verdict,) = [each for each in judge(found) if not each.met and each.goal.peer == "ours"]
    assert verdict.why.startswith(f"the direct door leaves out CONNECT, {share} of the 880 µs here; ")


@pytest.mark.parametrize(
    ("proxy", "says"),
    [
        pytest.param(
            1.5,
            "2 cores carry at most 667 MB/s at 1.50 s of CPU a GB in the proxy; 0.10 s less would be nginx's 1.40: no "
            "copies of plain text between two sessions of OpenSSL, and less Python for each piece",
            id="it takes more CPU",
        ),
        pytest.param(
            1.4,
            "the proxy takes no more CPU than nginx, 1.40 s a GB to 1.40: the cores were not free",
            id="it does not",
        ),
    ],
)
def test_a_download_that_is_slower_than_nginxs_says_what_would_be_as_fast(proxy: float, says: str) -> None:
    found = {"down": {"nginx": download(700, 0.5, 0.3, 1.4), "ours": download(600, 0.5, 0.3, proxy)}}
    (verdict,) = [each for each in judge(found) if not each.met]
    assert verdict.why == says


def test_a_longer_tail_says_what_the_clients_wait_for() -> None:
    found = results()
    found["warm, 100 clients"] = {"squid": {CPU: 80, LATENCY: 10}, "ours": {CPU: 92, LATENCY: 12.1}}
    (verdict,) = [each for each in judge(found) if not each.met]
    assert verdict.why == (
        "100 clients wait for each other, 92.0 µs of the proxy's CPU a request to squid's 80.0, 1.15 x, on cores that "
        "client and target want as well: less CPU, or a core for the proxy alone"
    )


def test_a_new_connection_at_the_direct_door_says_how_much_more_it_takes_than_squids() -> None:
    found = results()
    found["direct, new connection"]["ours"] = {CPU: 661}
    (verdict,) = [each for each in judge(found) if not each.met and each.goal.peer == "squid"]
    assert verdict.why == (
        "it takes 61 µs more than squid's 600; fewer stages between accept and the first request would save some, all "
        "of them in C the most"
    )


def test_a_goal_that_is_met_needs_no_reason() -> None:
    assert not any(verdict.why for verdict in judge(results()))


@pytest.mark.parametrize(
    ("cpu", "quick", "code"),
    [
        pytest.param({CPU: 110.0}, False, 0, id="a run in full that meets all is a success"),
        pytest.param({CPU: 111.0}, False, 1, id="a run in full that misses one is a failure"),
        pytest.param({CPU: 111.0}, True, 0, id="a quick run that misses one is a success"),
        pytest.param({}, True, 1, id="a quick run without a figure is a failure"),
    ],
)
def test_the_exit_code(cpu: dict[str, float], quick: bool, code: int) -> None:
    found = without(results(), "nginx")
    found["warm, 8 clients"]["ours"] = cpu
    report: dict[str, Any] = {"results": found, "goals": [verdict.to_json() for verdict in judge(found)], "worse": []}
    assert exit_code(report, quick=quick) == code


def test_a_run_in_full_that_is_worse_than_before_is_a_failure() -> None:
    report: dict[str, Any] = {"results": {}, "goals": [], "worse": [{"figure": CPU}]}
    assert exit_code(report, quick=False) == 1
    assert exit_code(report, quick=True) == 0


@pytest.mark.parametrize(
    "goal",
    [each for each in GOALS if each.case != DECISION],
    ids=lambda goal: f"{goal.case}, {goal.bound} {goal.limit} {goal.peer}".strip(),
)
def test_each_goal_is_about_a_figure_that_is_measured(goal: Any) -> None:
    result = {
        "requests": 1, "errors": 0, "p50_ms": 1, "p99_ms": 1, "bytes": 1, "mb_per_s": 1, "ended": 0, "streams": 1,
    }  # fmt: skip
    measured = Measurement(
        result=result, seconds=1, proxy_cpu=1, client_cpu=1, target_cpu=1, rss_before=0, rss_peak=0, rss_after=0
    )
    case = next(case for case in make_cases(seconds=1, size=1, streams=1) if case.name == goal.case)
    assert goal.figure in case.figures(measured)


def test_the_decision_is_measured() -> None:
    found = measure_decision()
    assert found[PLAIN_COST] > 0
    assert isfinite(found[ROLE_COST])


def test_where_the_time_goes_is_asked_of_each_case_that_takes_too_much_of_it() -> None:
    found = results()
    found["warm, 8 clients"]["ours"] = {CPU: 111}
    found["warm, 100 clients"]["ours"] = {LATENCY: 12.1}
    found["down"]["ours"] = {SPEED: 679}
    found["idle watches"]["ours"] = {WEIGHT: 91}
    asked = [case.name for case in where.missed(judge(found), make_cases(seconds=1, size=1, streams=1))]
    assert asked == ["warm, 8 clients", "warm, 100 clients", "down"]


def test_time_is_told_by_place_and_the_kernels_is_that_of_proc() -> None:
    ours, others = str(ROOT / "addons" / "net" / "tcp.py"), "/x/site-packages/mitmproxy/addonmanager.py"
    profile = {
        ("~", 0, "<method 'send' of '_socket.socket' objects>"): 3.0,
        ("~", 0, "<method 'poll' of 'select.epoll' objects>"): 9.0,
        ("~", 0, "<built-in method _openssl.SSL_read>"): 2.0,
        ("~", 0, "<built-in method builtins.len>"): 1.0,
        (ours, 1, "send"): 1.5,
        (ours, 9, "hold"): 0.5,
        (others, 1, "invoke_addon"): 4.0,
        ("/usr/lib/python3.13/heapq.py", 1, "heappush"): 1.0,
    }
    assert where.shares(profile, 0.5) == {
        "the kernel": 0.5,
        "TLS": 0.1,
        "Python's own, in C": 0.05,
        "addons/net/tcp.py": 0.1,
        "mitmproxy": 0.2,
        "Python's library, and others": 0.05,
    }
