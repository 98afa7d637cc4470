"""Each file of the domain is covered, lines and branches, by its own test file alone.

Usage: own_coverage.py [FILE…]   without a file: all of connector_store/domain and connector_store/store.py
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from matching import needs_test, wanted


def sources() -> Iterator[Path]:
    yield from sorted(path for path in Path("connector_store/domain").glob("*.py") if needs_test(path))
    yield Path("connector_store/store.py")


def complaint(source: Path) -> str:
    """Empty when the file is covered."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"COVERAGE_FILE": str(Path(folder) / "data")}
        run = [
            "-m",
            "coverage",
            "run",
            "--branch",
            f"--include={source}",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
        ]
        report = ["-m", "coverage", "report", "--show-missing", "--fail-under=100"]
        for step in ([*run, str(wanted(source))], report):
            result = subprocess.run(
                [sys.executable, *step], env=environment, capture_output=True, text=True, check=False
            )
            if result.returncode != 0:
                return f"{source} by {wanted(source)} alone:\n{result.stdout}{result.stderr}"
    return ""


def main(arguments: list[str]) -> int:
    files = [Path(name) for name in arguments] or list(sources())
    with ThreadPoolExecutor(2) as pool:
        complaints = [text for text in pool.map(complaint, files) if text]
    sys.stderr.write("".join(complaints))
    sys.stdout.write(f"{len(files) - len(complaints)} of {len(files)} files fully covered by their own test file\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
