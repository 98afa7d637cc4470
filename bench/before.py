"""Is a figure worse than it was: ours beside the same product of before, in the same rounds on the same machine.

Worse is a median that is worse by more than its noise: than the rounds of one of the two lie apart, most from least,
whichever lie further. One round says nothing of that; a tenth of the figure before counts as its noise then.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from bench.cases import Figures
from bench.table import OURS, format_number

BEFORE: Final = "before"
"""The peer's name."""
SINGLE_ROUND_NOISE: Final = 0.1
"""Of the figure before."""
_MORE_IS_BETTER: Final = ("MB per second", "requests per second")

Rounds = Mapping[str, Mapping[str, Sequence[Figures]]]
"""The figures of each round, by peer, by case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Medians over the rounds; noise in the figure's own unit."""

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
    """Of each figure that both have; a case that one of the two cannot do is left out."""
    return tuple(
        _compute_change(
            case, figure, [each[figure] for each in by_peer[BEFORE]], [each[figure] for each in by_peer[OURS]]
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
    """To be printed below the goals: what is worse, or that nothing is."""
    all_changes = tuple(changes)
    worse = [each for each in all_changes if each.is_worse]
    for each in worse:
        name = f"{each.case}: {each.figure}"
        ratio = f"{each.ours / each.before:.3f}x" if each.before else "-"
        was = f"was {format_number(each.before).strip()}, noise {format_number(each.noise).strip()}"
        yield f"  {name:50}{format_number(each.ours)}{ratio:>10}  {was:44}WORSE\n"
    yield f"  {len(all_changes) - len(worse)} of {len(all_changes)} figures are not worse than before by more than their noise\n"
