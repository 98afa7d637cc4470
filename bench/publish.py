"""All that docs/performance.md says, measured anew: on a quiet machine, in three quarters of an hour.

    python -m bench.publish [--quick] [--only NAME,NAME] [--before FOLDER] [--folder bench/figures]

Each step is a program of its own, one after the other; one that fails or misses a goal does not stop the others, and
the last lines say how each has ended. Without --quick the tables and pictures of the docs are written then. Left out
are `bench.token_renewal`, half an hour of real time, `bench.controller_scale`, and what needs root: `scripts/bench doors`
and `bench.csi_volumes`.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import pages
from bench.checkout import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """file: of its figures; arguments: of python -m; quick: what makes it small, minutes: what it takes in full."""

    file: str
    arguments: tuple[str, ...]
    quick: tuple[str, ...]
    minutes: int

    @property
    def name(self) -> str:
        return self.file.removesuffix(".json")

    def command(self, folder: Path, *, quick: bool, before: Path | None = None) -> list[str]:
        options = self.quick if quick else ()
        if before and self.name == "bench":
            options = (*options, "--before", str(before))
        return [sys.executable, "-m", *self.arguments, *options, "--json", str(folder / self.file)]


STEPS: Final = (
    Step(file="bench.json", arguments=("bench",), quick=("--quick",), minutes=20),
    Step(file="curves.json", arguments=("bench", "curves"), quick=("--quick",), minutes=3),
    Step(file="kubectl.json", arguments=("bench.kubectl_latency",), quick=("--calls", "3"), minutes=1),
    Step(file="trips.json", arguments=("bench", "trips"), quick=(), minutes=1),
    Step(file="memory.json", arguments=("bench", "memory"), quick=("--quick",), minutes=5),
    Step(file="soak.json", arguments=("bench", "soak"), quick=("--seconds", "5", "--clients", "20"), minutes=12),
    Step(file="store_scale.json", arguments=("bench.store_scale",), quick=("--connectors", "100"), minutes=1),
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small values, for development")
    parser.add_argument("--only", metavar="NAME,NAME", help=f"of {', '.join(step.name for step in STEPS)}")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="as that of scripts/bench")
    parser.add_argument(
        "--folder", type=Path, help="for the figures; default: bench/figures, with --quick build/figures"
    )
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else [step.name for step in STEPS]
    if unknown := set(names) - {step.name for step in STEPS}:
        parser.error(f"no such step: {', '.join(sorted(unknown))}")
    folder = options.folder or (ROOT / "build" / "figures" if options.quick else pages.FIGURES)
    folder.mkdir(parents=True, exist_ok=True)
    steps = [step for step in STEPS if step.name in names]
    if not options.quick:
        sys.stdout.write(f"{sum(step.minutes for step in steps)} minutes; load {os.getloadavg()[0]:.1f}\n")
    results = {
        step.name: _run(step.command(folder.resolve(), quick=options.quick, before=options.before)) for step in steps
    }
    if not options.quick and folder == pages.FIGURES:
        pages.main()
    sys.stdout.writelines(format_results(results))
    return max(code for code, _ in results.values())


def _run(command: list[str]) -> tuple[int, float]:
    """Its exit code, and the seconds that it took."""
    sys.stdout.write(f"\n$ {' '.join(command[1:])}\n")
    sys.stdout.flush()
    start = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    return code, time.monotonic() - start


def format_results(results: dict[str, tuple[int, float]]) -> Iterator[str]:
    yield "\n"
    for name, (code, seconds) in results.items():
        yield f"{name:16}{seconds / 60:6.1f} min  {'ok' if code == 0 else f'exit code {code}: see above'}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
