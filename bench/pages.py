"""Writes the tables and pictures of docs/performance.md from bench/figures; tests/bench compares them.

    python -m bench.pages

A table stands between `<!-- NAME -->` and `<!-- end -->`, where NAME is one of TABLES.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench import curves_picture, goals, picture
from bench.before import BEFORE, Change, compute_changes
from bench.cases import PACE
from bench.checkout import ROOT
from bench.decision import DECISION, ROLE_COST
from bench.goals import Goal

FIGURES: Final = ROOT / "bench" / "figures"
DOCS: Final = ROOT / "docs"
PAGE: Final = DOCS / "performance.md"
_CPU, _SPEED = "cpu per request, µs", "MB per second"
_PEERS: Final = {"ours": "ours", "ours, mitmdump": "ours by mitmdump", "squid": "squid", "nginx": "nginx",
                 "mitmdump": "mitmdump", "no proxy": "no proxy"}  # fmt: skip
_ROWS: Final = (
    ("CPU of a small request, 8 clients", "warm, 8 clients", _CPU),
    ("CPU of a small request, 100 clients", "warm, 100 clients", _CPU),
    ("p99 of 100 clients", "warm, 100 clients", "p99, ms"),
    (f"p99 of {PACE:,} small requests a second", f"warm, 100 clients, {PACE:,} a second", "p99, ms"),
    ("CPU of a new connection and its request", "new connection", _CPU),
    ("CPU of the target for a new connection", "new connection", "target cpu per request, µs"),
    ("CPU of a small request at the direct door", "direct, warm", _CPU),
    ("CPU of a new connection at the direct door", "direct, new connection", _CPU),
    ("a download", "down", _SPEED),
    ("CPU of 1 GB down", "down", "cpu per GB, s"),
    ("an upload", "up", _SPEED),
    ("CPU of 1 GB up", "up", "cpu per GB, s"),
    ("memory of an idle watch", "idle watches", "memory per stream, kB"),
)
_CURVES: Final = (
    ("connections", "connections that ask at once", (("CPU of a request", _CPU), ("p99", "p99, ms"))),
    ("Connectors", "Connectors", (("CPU of a request", _CPU), ("resident memory", "resident, MB"))),
    ("bytes of a body", "bytes of a body", (("CPU of a request", _CPU), ("one connection", _SPEED))),
    ("idle streams", "idle streams", (("memory of each", "memory per stream, kB"),)),
)
_PASSED: Final = {
    "down": "down to a slow reader",
    "down-chunked-watched": "down in chunks, while flows are made",
    "up": "up to a slow target",
    "up-chunked-watched": "up in chunks, while flows are made",
    "exec-websocket": "an exec's output, over WebSocket",
    "exec-spdy": "an exec's output, over SPDY",
    "watch": "one watch",
    "refused-upload": "an upload that is refused",
    "silent-target": "an upload to a target that accepts and never answers",
    "intercepted": "an upload that a person holds in mitmweb",
    "check-hangs": "an upload while a check hangs",
    "idle": "idle watches",
}


def shown(value: float, figure: str) -> str:
    """With three digits, and the unit that the figure's name ends with."""
    unit = "MB/s" if figure == _SPEED else figure.rpartition(", ")[2].partition(" ")[0]
    if unit == "µs" and value >= 1000:
        value, unit = value / 1000, "ms"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def peers(report: Any) -> Iterator[str]:
    results = report["results"]
    names = [name for name in _PEERS if any(name in by_peer for by_peer in results.values())]
    rows = [
        [label, *(_cell(results[case].get(name, {}), figure) for name in names)]
        for label, case, figure in _ROWS
        if case in results
    ]
    yield from _table(["", *(_PEERS[name] for name in names)], rows)
    rounds = report["rounds"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    yield ""
    yield (f"{_machine(report)}; {f'median of {rounds} rounds' if rounds > 1 else 'one round'}; {versions}.")


def _machine(report: Any) -> str:
    found = report["machine"]
    return f"{found['product']} on {found['cpu']}, {found['cores']} cores, load {found['load']:.1f}"


def _cell(figures: dict[str, float], figure: str) -> str:
    """Empty also for nothing: a target without a proxy has no proxy that costs."""
    return shown(figures[figure], figure) if figures.get(figure) else ""


def aims(report: Any) -> Iterator[str]:
    verdicts = goals.evaluate(report["results"], cores=report["machine"]["cores"])
    rows = [
        [_label(each.goal), shown(each.ours, each.goal.figure), goals.describe_limit(each.goal),
         "" if each.ratio is None else f"{each.ratio:.2f}", "met" if each.met else "missed"]
        for each in verdicts
    ]  # fmt: skip
    yield from _table(["figure", "ours", "aim", "ours to that", ""], rows)
    reasons = [(each.goal, each.why) for each in verdicts if each.why]
    if reasons:
        yield ""
    for goal, why in reasons:
        yield f"- {_label(goal)}, {goals.describe_limit(goal)}: {why}."


def _label(goal: Goal) -> str:
    if goal.case == DECISION:
        return "permissions with a role of 50 rules" if goal.figure == ROLE_COST else goal.figure
    named = {(case, figure): label for label, case, figure in _ROWS}
    return named[goal.case, goal.figure]


def before(report: Any) -> Iterator[str]:
    """A sentence where no other checkout took turns."""
    found = {(change.case, change.figure): change for change in compute_changes(report["raw"])}
    if not found:
        yield "Not part of the run that is published here: `python -m bench.publish --before FOLDER`."
        return
    rows = [
        [label, *(shown(value, figure) for value in (change.before, change.ours, change.noise)), _ratio(change)]
        for label, case, figure in _ROWS
        if (change := found.get((case, figure)))
    ]
    version = report["versions"][BEFORE]
    yield from _table(["", version, "ours", "noise", f"ours to {version}"], rows)
    worse = [f"{each.case}: {each.figure}, {_ratio(each)}" for each in found.values() if each.is_worse]
    yield ""
    named = f": {'; '.join(worse)}" if worse else ""
    yield f"Of {len(found)} figures {len(worse)} are worse by more than their noise{named}."


def _ratio(change: Change) -> str:
    return f"{change.ours / change.before:.2f}" if change.before else ""


def curves(report: Any) -> Iterator[str]:
    found = report["curves"]
    width = max(len(points) for points in found.values())
    yield f"|{' |' * (width + 1)}"
    yield f"|{'---|' * (width + 1)}"
    for name, head, lines in _CURVES:
        points = found[name]
        rows = [[f"**{head}**", *(f"{point['at']:,}" for point in points)]]
        rows += [[label, *(shown(point[figure], figure) for point in points)] for label, figure in lines]
        for row in rows:
            yield f"| {' | '.join([*row, *[''] * (width + 1 - len(row))])} |"
    yield from ("", f"{_machine(report)}.")


def memory(report: Any) -> Iterator[str]:
    rows = [[_passed(row), _grown(row)] for row in report if not row["problem"]]
    yield from _table(["what passed", "grew by"], rows)


def _passed(row: Any) -> str:
    what = _PASSED[row["name"]]
    if row["events"]:
        return f"{row['events']:,} events of {what}"
    if row["streams"]:
        return f"{row['streams']:,} {what}"
    return f"{row['bytes'] / 1e9:.2g} GB: {what}" if row["bytes"] >= 1e8 else what


def _grown(row: Any) -> str:
    each = f", {shown(row['grown_mb'] / row['streams'] * 1e3, 'kB')} each" if row["streams"] else ""
    return f"{row['grown_mb']:.1f} MB{each}"


def kubectl(report: Any) -> Iterator[str]:
    figures = ("median, ms", "p90, ms")
    rows = [[way, *(shown(found[figure], figure) for figure in figures)] for way, found in report["ways"].items()]
    yield from _table([f"of {report['calls']} calls each", "median", "p90"], rows)
    yield from ("", f"{_machine(report)}.")


def soak(report: Any) -> Iterator[str]:
    before, after, gauge = report["before"], report["after"], report["gauge"]
    ends = sum(sum(outcomes.values()) for outcomes in report["outcomes"].values())
    yield from _table(
        [f"{report['clients']} clients, {report['seconds']} s", ""],
        [
            ["exchanges", f"{ends:,}"],
            ["ended in a way that the faults do not explain", f"{report['unexplained']:,}"],
            ["open files before and after", f"{before['fds']}, {after['fds']}"],
            ["tasks before and after", f"{before['tasks']}, {after['tasks']}"],
            ["resident memory before and after", f"{before['rss_mb']:.0f} MB, {after['rss_mb']:.0f} MB"],
            ["longest hold of the event loop", f"{gauge['longest_own']:.0f} ms"],
        ],
    )


TABLES: Final[dict[str, tuple[str, Callable[[Any], Iterator[str]]]]] = {
    "beside others": ("bench.json", peers),
    "aims": ("bench.json", aims),
    "before": ("bench.json", before),
    "curves": ("curves.json", curves),
    "memory": ("memory.json", memory),
    "soak": ("soak.json", soak),
    "kubectl": ("kubectl.json", kubectl),
}
PICTURES: Final[dict[str, tuple[str, Callable[[Any], str]]]] = {
    "images/bench.svg": ("bench.json", picture.picture),
    "images/curves.svg": ("curves.json", curves_picture.picture),
}


def written(page: str, figures: Path = FIGURES) -> str:
    """The page with its tables made anew; KeyError for a table that nobody makes."""

    def table(match: re.Match[str]) -> str:
        file, lines = TABLES[match[1]]
        return f"<!-- {match[1]} -->\n" + "\n".join(lines(_read(figures / file))) + "\n<!-- end -->"

    return re.sub(r"<!-- ([a-z ]+) -->\n(?:.*?\n)??<!-- end -->", table, page, flags=re.DOTALL)


def drawn(name: str, figures: Path = FIGURES) -> str:
    file, draw = PICTURES[name]
    return draw(_read(figures / file))


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


def main() -> int:
    PAGE.write_text(written(PAGE.read_text()))
    for name in PICTURES:
        (DOCS / name).write_text(drawn(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
