"""What the comparison must show: our figures beside squid's and nginx's.

Results of a report in, a verdict out for each goal whose figures are there: new connection, 3.2 x squid's CPU, met.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.table import OURS, number

Results = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Figures by name, by peer, by case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """limit: times the peer's figure; without a peer the figure itself."""

    case: str
    figure: str
    bound: Literal["at most", "at least"]
    limit: float
    peer: str = ""


GOALS = (
    Goal(case="warm, 8 clients", figure="cpu per request, µs", bound="at most", limit=1.3, peer="squid"),
    Goal(case="new connection", figure="cpu per request, µs", bound="at most", limit=4, peer="squid"),
    Goal(case="warm, 100 clients", figure="p99, ms", bound="at most", limit=2, peer="squid"),
    Goal(case="down", figure="MB per second", bound="at least", limit=1, peer="nginx"),
    Goal(case="down", figure="MB per second", bound="at least", limit=1.5, peer="squid"),
    Goal(case="idle watches", figure="memory per stream, kB", bound="at most", limit=150),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """ratio: ours over theirs; both None for a goal without a peer, ratio alone where theirs is zero."""

    goal: Goal
    ours: float
    theirs: float | None
    ratio: float | None
    met: bool

    def plain(self) -> dict[str, Any]:
        return {**asdict(self.goal), "ours": self.ours, "theirs": self.theirs, "ratio": self.ratio, "met": self.met}


def judge(results: Results) -> tuple[Verdict, ...]:
    """A goal is left out unless ours and its peer both have the figure."""
    return tuple(verdict for goal in GOALS if (verdict := _verdict(goal, results.get(goal.case, {}))))


def _verdict(goal: Goal, by_peer: Mapping[str, Mapping[str, float]]) -> Verdict | None:
    ours, theirs = by_peer.get(OURS, {}).get(goal.figure), by_peer.get(goal.peer, {}).get(goal.figure)
    if ours is None or (goal.peer and theirs is None):
        return None
    limit = goal.limit if theirs is None else goal.limit * theirs
    met = ours <= limit if goal.bound == "at most" else ours >= limit
    return Verdict(goal=goal, ours=ours, theirs=theirs, ratio=ours / theirs if theirs else None, met=met)


def lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """To be printed below the table."""
    for each in verdicts:
        goal = each.goal
        name, wanted = f"{goal.case}: {goal.figure}", f"{goal.bound} {goal.limit:g}"
        if goal.peer:
            wanted += f" x {goal.peer}'s"
        ratio = f"{each.ratio:.3f}x" if each.ratio is not None else "-"
        yield f"  {name:42}{number(each.ours)}{ratio:>10}  {wanted:26}{'met' if each.met else 'MISSED'}\n"
