"""Measure the figures of bench/RESULTS.md and docs/performance.md again, and write their summary to bench/figures.json.

    python -m bench.publish [--quick] [--only NAME,NAME] [--before FOLDER] [--folder build/figures]

Run it on a quiet machine; it takes 40 minutes. Each step runs a program, whose report stays in the folder. The next
step runs even if one fails or misses a goal; the last lines have the exit codes. A full run replaces the sections of
its steps in the summary; copy the figures into the tables of the docs. Not included are bench.access_flow,
bench.controller_scale, and the programs that need root: bench.csi_volumes and `scripts/bench idle-memory`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.access_decision import ACCESS_COST
from bench.before import compute_changes
from bench.checkout import ROOT
from bench.decision import ROLE_COST

SUMMARY: Final = ROOT / "bench" / "figures.json"
FIGURES: Final = (
    "cpu per request, µs",
    "target cpu per request, µs",
    "p99, ms",
    "MB per second",
    "cpu per GB, s",
    "memory per stream, kB",
    ROLE_COST,
    ACCESS_COST,
)
"""Figures of the comparison that the summary has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`arguments` are those of `python -m`, `quick` makes the step small, `minutes` is the duration of a full run."""

    name: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]
    minutes: int

    def command(self, folder: Path, *, quick: bool, before: Path | None = None) -> list[str]:
        options = self.quick if quick else ()
        if before and self.name == "comparison":
            options = (*options, "--before", str(before))
        return [sys.executable, "-m", *self.arguments, *options, "--json", str(self.report(folder))]

    def report(self, folder: Path) -> Path:
        return folder / f"{self.name}.json"


STEPS: Final = (
    Step(name="comparison", arguments=("bench",), quick=("--quick",), minutes=20),
    Step(name="kubectl", arguments=("bench.kubectl_latency",), quick=("--calls", "3"), minutes=1),
    Step(name="trips", arguments=("bench", "trips"), quick=(), minutes=1),
    Step(name="memory", arguments=("bench", "memory"), quick=("--quick",), minutes=5),
    Step(name="soak", arguments=("bench", "soak"), quick=("--seconds", "5", "--clients", "20"), minutes=12),
    Step(name="store_scale", arguments=("bench.store_scale",), quick=("--connectors", "100"), minutes=1),
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="use small values, for development; write no summary")
    parser.add_argument("--only", metavar="NAME,NAME", help=f"steps: {', '.join(step.name for step in STEPS)}")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="other checkout, as in scripts/bench --before")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "figures", help="folder for the reports")
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else [step.name for step in STEPS]
    if unknown := set(names) - {step.name for step in STEPS}:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    steps = [step for step in STEPS if step.name in names]
    if not options.quick:
        sys.stdout.write(f"{sum(step.minutes for step in steps)} minutes; load {os.getloadavg()[0]:.1f}\n")
    results = {step.name: _run(step.command(folder, quick=options.quick, before=options.before)) for step in steps}
    if not options.quick:
        summary = json.loads(SUMMARY.read_text())
        for step in steps:
            summary[step.name] = summarize(step.name, json.loads(step.report(folder).read_text()))
        SUMMARY.write_text(dump(summary) + "\n")
    sys.stdout.writelines(format_results(results))
    return max(code for code, _ in results.values())


def _run(command: list[str]) -> tuple[int, float]:
    """Run the command and return its exit code and its duration in seconds."""
    sys.stdout.write(f"\n$ {' '.join(command[1:])}\n")
    sys.stdout.flush()
    start = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    return code, time.monotonic() - start


def summarize(name: str, report: Any) -> Any:
    """Return the part of a step's report that the docs quote."""
    match name:
        case "comparison":
            return {key: report[key] for key in ("machine", "versions", "rounds")} | {"figures": _comparison(report)}
        case "trips":
            return {event: {"calls": sum(calls.values()), "files": len(calls)} for event, calls in report.items()}
        case "memory":
            return {
                row["name"]: {"grown_mb": row["grown_mb"]}
                | {key: row[key] for key in ("bytes", "events", "streams") if row[key]}
                | ({"kb_per_stream": row["grown_mb"] * 1e3 / row["streams"]} if row["streams"] else {})
                for row in report
            }
        case "soak":
            exchanges = sum(sum(outcomes.values()) for outcomes in report["outcomes"].values())
            at_rest = {
                key: {name: report[key][name] for name in ("fds", "tasks", "rss_mb")} for key in ("before", "after")
            }
            gauge = {name: report["gauge"][name] for name in ("callbacks", "longest_own")}
            counts = {name: report[name] for name in ("clients", "seconds", "unexplained")}
            return {**counts, "exchanges": exchanges, **at_rest, "loop": gauge}
    return report


def _comparison(report: Any) -> dict[str, dict[str, dict[str, float]]]:
    """Return the medians by case, figure and peer, with the noise if another checkout was measured too."""
    noise = {(change.case, change.figure): change.noise for change in compute_changes(report["raw"])}
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for case, by_peer in report["results"].items():
        for figure in FIGURES:
            values = {peer: medians[figure] for peer, medians in by_peer.items() if figure in medians}
            if (case, figure) in noise:
                values["noise"] = noise[case, figure]
            if values:
                figures.setdefault(case, {})[figure] = values
    return figures


def dump(value: Any, indent: str = "") -> str:
    """Return JSON with an innermost object on one line, and figures of six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, dict) or not any(isinstance(child, dict) for child in value.values()):
        if isinstance(value, dict):
            return (
                "{"
                + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {dump(child)}" for key, child in value.items())
                + "}"
            )
        return json.dumps(value, ensure_ascii=False)
    lines = [
        f"{indent} {json.dumps(key, ensure_ascii=False)}: {dump(child, indent + ' ')}" for key, child in value.items()
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def format_results(results: dict[str, tuple[int, float]]) -> Iterator[str]:
    yield "\n"
    for name, (code, seconds) in results.items():
        yield f"{name:16}{seconds / 60:6.1f} min  {'ok' if code == 0 else f'exit code {code}: see above'}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
