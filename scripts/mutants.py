"""Put each listed bug into a copy of the tree, and report which ones the tests detect.

The exit code is 1 if a bug is not detected, or does not apply to the source any more.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
MUTANTS_FILE: Final = ROOT / "tests" / "mutants.toml"
TIMEOUT: Final = 600.0
"""Seconds for the tests of one bug. A bug that makes them hang is detected."""
UNIT_TESTS: Final = ("-m", "not slow and not cluster and not clients and not node", "-n", "2", "--dist", "worksteal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A bug: in `file`, `now` replaces `was`, which occurs exactly once. `tests` must detect it."""

    id: str
    file: str
    was: str
    now: str
    tests: tuple[str, ...]
    why: str


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="bugs to try; default: all")
    parser.add_argument(
        "--all-unit", action="store_true", help="run all unit tests if the tests of a bug do not detect it"
    )
    options = parser.parse_args(arguments)
    mutants = [mutant for mutant in read_mutants(MUTANTS_FILE) if not options.ids or mutant.id in options.ids]
    if not mutants:
        parser.error(f"none of these is in {MUTANTS_FILE.name}")
    detected_count = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = copy_tree(Path(folder))
        for mutant in mutants:
            result = run_mutant(tree, mutant, all_unit=options.all_unit)
            detected_count += result == "seen"
            sys.stdout.write(f"{result:15} {mutant.id:6} {mutant.file}: {mutant.why}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{detected_count} of {len(mutants)} seen\n")
    return 0 if detected_count == len(mutants) else 1


def read_mutants(path: Path) -> Iterator[Mutant]:
    for entry in tomllib.loads(path.read_text())["mutant"]:
        yield Mutant(**{**entry, "tests": tuple(entry["tests"])})


def copy_tree(folder: Path) -> Path:
    """Copy the working tree to `folder`, without the files that git ignores."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def run_mutant(tree: Path, mutant: Mutant, *, all_unit: bool) -> str:
    path = tree / mutant.file
    text = path.read_text() if path.exists() else ""
    if text.count(mutant.was) != 1:
        return "does not apply"
    path.write_text(text.replace(mutant.was, mutant.now))
    try:
        if not tests_pass(tree, mutant.tests):
            return "seen"
        return "seen" if all_unit and not tests_pass(tree, UNIT_TESTS) else "NOT SEEN"
    finally:
        path.write_text(text)


def tests_pass(tree: Path, arguments: Sequence[str]) -> bool:
    # The tests, and the programs that they start, must import the copy.
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    try:
        result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return False
    if result.returncode not in (0, 1):
        raise RuntimeError(result.stdout.decode()[-2000:] + result.stderr.decode()[-2000:])
    return result.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
