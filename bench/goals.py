"""Goals of the comparison: limits for our figures, most of them relative to those of squid and nginx."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.access_decision import ACCESS_COST
from bench.decision import DECISION, ROLE_COST
from bench.report import OURS, format_number

Results = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Figures by case, peer and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A limit for one figure. With a peer, `limit` is a factor of the peer's figure in `peer_case`, or in `case`."""

    case: str
    figure: str
    bound: Literal["at most", "at least"]
    limit: float
    peer: str = ""
    peer_case: str = ""


_CPU, _TARGET, _SPEED = "cpu per request, µs", "target cpu per request, µs", "MB per second"
_NEW, _DIRECT = "new connection", "direct, new connection"
GOALS = (
    Goal(case="warm, 8 clients", figure=_CPU, bound="at most", limit=1.1, peer="squid"),
    Goal(case="warm, 100 clients", figure="p99, ms", bound="at most", limit=1.2, peer="squid"),
    Goal(case="warm, 100 clients", figure=_CPU, bound="at most", limit=1.3, peer="tuned squid"),
    Goal(case=_NEW, figure=_CPU, bound="at most", limit=1.5, peer="squid"),
    Goal(case=_NEW, figure=_CPU, bound="at most", limit=1.3, peer="tuned squid"),
    Goal(case=_NEW, figure=_TARGET, bound="at most", limit=1.5, peer="squid"),
    Goal(case=_DIRECT, figure=_CPU, bound="at most", limit=1.1, peer="squid", peer_case=_NEW),
    Goal(case=_DIRECT, figure=_CPU, bound="at most", limit=0.75, peer=OURS, peer_case=_NEW),
    Goal(case="down", figure=_SPEED, bound="at least", limit=1, peer="nginx"),
    Goal(case="down", figure=_SPEED, bound="at least", limit=0.85, peer="no proxy"),
    Goal(case="idle watches", figure="memory per stream, kB", bound="at most", limit=90),
    Goal(case=DECISION, figure=ROLE_COST, bound="at most", limit=3),
    Goal(case=DECISION, figure=ACCESS_COST, bound="at most", limit=2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalResult:
    """Our figure and the peer's. `ratio` is ours divided by theirs, or None without a peer or if theirs is zero."""

    goal: Goal
    ours: float
    theirs: float | None
    ratio: float | None
    met: bool

    def to_json(self) -> dict[str, Any]:
        figures = {"ours": self.ours, "theirs": self.theirs, "ratio": self.ratio, "met": self.met}
        return {**asdict(self.goal), **figures}


def evaluate(results: Results) -> tuple[GoalResult, ...]:
    """Return the results of all goals for which both figures were measured."""
    results_or_none = (_evaluate(goal, results) for goal in GOALS)
    return tuple(result for result in results_or_none if result is not None)


def _evaluate(goal: Goal, results: Results) -> GoalResult | None:
    our_figures = results.get(goal.case, {}).get(OURS, {})
    peer_figures = results.get(goal.peer_case or goal.case, {}).get(goal.peer, {})
    ours, theirs = our_figures.get(goal.figure), peer_figures.get(goal.figure)
    if ours is None or (goal.peer and theirs is None):
        return None
    limit = goal.limit if theirs is None else goal.limit * theirs
    met = ours <= limit if goal.bound == "at most" else ours >= limit
    return GoalResult(goal=goal, ours=ours, theirs=theirs, ratio=ours / theirs if theirs else None, met=met)


def describe_limit(goal: Goal) -> str:
    """Return, for example, "at most 1.1 x squid's"."""
    if not goal.peer:
        return f"{goal.bound} {goal.limit:g}"
    possessive = "our" if goal.peer == OURS else f"{goal.peer}'s"
    return f"{goal.bound} {goal.limit:g} x {possessive} {goal.peer_case}".rstrip()


def format_results(results: Iterable[GoalResult]) -> Iterator[str]:
    """Return the lines to print below the report."""
    for result in results:
        name = f"{result.goal.case}: {result.goal.figure}"
        ratio = f"{result.ratio:.3f}x" if result.ratio is not None else "-"
        outcome = "met" if result.met else "MISSED"
        yield f"  {name:50}{format_number(result.ours)}{ratio:>10}  {describe_limit(result.goal):44}{outcome}\n"
