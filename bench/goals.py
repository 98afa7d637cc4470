"""What the comparison must show: our figures beside squid's and nginx's.

Results of a report in, a verdict out for each goal whose figures are there: new connection, 1.4 x squid's CPU, met.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench import bounds
from bench.bounds import Results
from bench.decision import DECISION, ROLE_COST
from bench.table import OURS, format_number


def cores() -> int:
    """That client, target and proxy share."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """limit: times the peer's figure, of `peer_case` where that is another one; without a peer the figure itself.

    why: of results and the machine's cores, the sentence that is printed when it is missed; empty if there is none.
    """

    case: str
    figure: str
    bound: Literal["at most", "at least"]
    limit: float
    peer: str = ""
    peer_case: str = ""
    why: Callable[[Results, int], str] | None = None


_CPU, _TARGET, _SPEED = "cpu per request, µs", "target cpu per request, µs", "MB per second"
_NEW, _DIRECT = "new connection", "direct, new connection"
GOALS = (
    Goal(case="warm, 8 clients", figure=_CPU, bound="at most", limit=1.1, peer="squid"),
    Goal(case="warm, 100 clients", figure="p99, ms", bound="at most", limit=1.2, peer="squid", why=bounds.of_the_tail),
    Goal(case=_NEW, figure=_CPU, bound="at most", limit=1.5, peer="squid"),
    Goal(case=_NEW, figure=_TARGET, bound="at most", limit=1.5, peer="squid"),
    Goal(
        case=_DIRECT,
        figure=_CPU,
        bound="at most",
        limit=1.1,
        peer="squid",
        peer_case=_NEW,
        why=bounds.of_a_new_connection,
    ),
    Goal(
        case=_DIRECT, figure=_CPU, bound="at most", limit=0.75, peer=OURS, peer_case=_NEW, why=bounds.of_the_direct_door
    ),
    Goal(case="down", figure=_SPEED, bound="at least", limit=1, peer="nginx", why=bounds.of_a_download_beside_nginx),
    Goal(case="down", figure=_SPEED, bound="at least", limit=bounds.SHARE, peer="no proxy", why=bounds.of_a_download),
    Goal(case="idle watches", figure="memory per stream, kB", bound="at most", limit=90),
    Goal(case=DECISION, figure=ROLE_COST, bound="at most", limit=3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoalResult:
    """ratio: ours over theirs; both None for a goal without a peer, ratio alone where theirs is zero.

    why: of a goal that is missed, empty where nobody can say.
    """

    goal: Goal
    ours: float
    theirs: float | None
    ratio: float | None
    met: bool
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self.goal), "ours": self.ours, "theirs": self.theirs, "ratio": self.ratio, "met": self.met,
                "why": self.why}  # fmt: skip


def evaluate(results: Results, *, cores: int) -> tuple[GoalResult, ...]:
    """A goal is left out unless ours and its peer both have the figure."""
    results_or_none = (_evaluate(goal, results, cores) for goal in GOALS)
    return tuple(verdict for verdict in results_or_none if verdict is not None)


def _evaluate(goal: Goal, results: Results, cores: int) -> GoalResult | None:
    by_peer: Mapping[str, Mapping[str, float]] = results.get(goal.case, {})
    peer_figures = results.get(goal.peer_case or goal.case, {})
    ours, theirs = by_peer.get(OURS, {}).get(goal.figure), peer_figures.get(goal.peer, {}).get(goal.figure)
    if ours is None or (goal.peer and theirs is None):
        return None
    limit = goal.limit if theirs is None else goal.limit * theirs
    met = ours <= limit if goal.bound == "at most" else ours >= limit
    why = goal.why(results, cores) if goal.why and not met else ""
    return GoalResult(goal=goal, ours=ours, theirs=theirs, ratio=ours / theirs if theirs else None, met=met, why=why)


def describe_limit(goal: Goal) -> str:
    """At most 1.1 x squid's."""
    if not goal.peer:
        return f"{goal.bound} {goal.limit:g}"
    whose = "our" if goal.peer == OURS else f"{goal.peer}'s"
    return f"{goal.bound} {goal.limit:g} x {whose} {goal.peer_case}".rstrip()


def format_results(results: Iterable[GoalResult]) -> Iterator[str]:
    """To be printed below the table."""
    for each in results:
        name = f"{each.goal.case}: {each.goal.figure}"
        ratio = f"{each.ratio:.3f}x" if each.ratio is not None else "-"
        yield f"  {name:50}{format_number(each.ours)}{ratio:>10}  {describe_limit(each.goal):44}{'met' if each.met else 'MISSED'}\n"
        if each.why:
            yield f"    because {each.why}\n"
