"""The report of the comparison as text: one table for each case, with our ratio to each peer."""

from collections.abc import Iterator
from typing import Any

OURS = "ours"


def format_report(report: dict[str, Any]) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    for case, by_peer in report["results"].items():
        yield ""
        yield case
        names = list(by_peer)
        yield (
            f"  {'':28}"
            + "".join(f"{name:>16}" for name in names)
            + "".join(f"{f'ours/{name}':>16}" for name in names if not name.startswith(OURS) and by_peer.get(OURS))
        )
        for figure in dict.fromkeys(figure for figures in by_peer.values() for figure in figures):
            yield (
                f"  {figure:28}"
                + "".join(format_number(by_peer[name].get(figure)) for name in names)
                + "".join(
                    _ratio(by_peer[OURS].get(figure), by_peer[name].get(figure))
                    for name in names
                    if not name.startswith(OURS) and by_peer.get(OURS)
                )
            )
    machine = report["machine"]
    yield ""
    yield f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']:.1f}; " + ", ".join(
        f"{name} {version}" for name, version in report["versions"].items()
    )
    yield from (f"FAILED {failure}" for failure in report["failures"])


def format_number(value: float | None) -> str:
    if value is None:
        return f"{'-':>16}"
    return f"{value:16,.0f}" if value >= 100 else f"{value:16.3g}"


def _ratio(ours: float | None, peer: float | None) -> str:
    return f"{ours / peer:15.2f}x" if ours and peer else f"{'-':>16}"
