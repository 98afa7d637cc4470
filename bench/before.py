"""Changes of the figures between another checkout of the product and this one, measured in the same rounds.

A figure is worse if its median is worse by more than its noise. The noise is the difference between the largest and the
smallest value of the rounds, for the checkout where it is larger. After a single round it is a tenth of the figure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from bench.cases import Figures
from bench.report import OURS, format_number

BEFORE: Final = "before"
"""Name of the peer that runs the other checkout."""
SINGLE_ROUND_NOISE: Final = 0.1
"""Noise after a single round, as a share of the figure of the other checkout."""
_MORE_IS_BETTER: Final = ("MB per second", "requests per second")

Rounds = Mapping[str, Mapping[str, Sequence[Figures]]]
"""Figures of each round, by case and peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure of both checkouts: the medians over the rounds, and the noise in the unit of the figure."""

    case: str
    figure: str
    before: float
    ours: float
    noise: float

    @property
    def is_worse(self) -> bool:
        difference = self.ours - self.before
        return (-difference if self.figure in _MORE_IS_BETTER else difference) > self.noise

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compute_changes(rounds: Rounds) -> tuple[Change, ...]:
    """Return the change of each figure that both checkouts have."""
    return tuple(
        _compute_change(
            case, figure, [values[figure] for values in by_peer[BEFORE]], [values[figure] for values in by_peer[OURS]]
        )
        for case, by_peer in rounds.items()
        if by_peer.get(BEFORE) and by_peer.get(OURS)
        for figure in by_peer[BEFORE][0]
    )


def _compute_change(case: str, figure: str, before: Sequence[float], ours: Sequence[float]) -> Change:
    previous = median(before)
    has_several_rounds = min(len(before), len(ours)) > 1
    noise = (
        max(max(before) - min(before), max(ours) - min(ours)) if has_several_rounds else SINGLE_ROUND_NOISE * previous
    )
    return Change(case=case, figure=figure, before=previous, ours=median(ours), noise=noise)


def format_changes(changes: Iterable[Change]) -> Iterator[str]:
    """Return the lines to print below the goals: each figure that is worse, and the number of the others."""
    all_changes = tuple(changes)
    worse = [change for change in all_changes if change.is_worse]
    for change in worse:
        name = f"{change.case}: {change.figure}"
        ratio = f"{change.ours / change.before:.3f}x" if change.before else "-"
        previous = f"was {format_number(change.before).strip()}, noise {format_number(change.noise).strip()}"
        yield f"  {name:50}{format_number(change.ours)}{ratio:>10}  {previous:44}WORSE\n"
    total = len(all_changes)
    yield f"  {total - len(worse)} of {total} figures are not worse than before by more than their noise\n"
