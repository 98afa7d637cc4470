"""Each file of the domain is covered, lines and branches, by its own test file alone.

Usage: own_coverage.py [FILE…]   without a file: all of connector_store/domain and connector_store/store.py
"""

import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coverage
from matching import needs_test, wanted
from usage import answered


def sources() -> Iterator[Path]:
    yield from sorted(path for path in Path("connector_store/domain").glob("*.py") if needs_test(path))
    yield Path("connector_store/store.py")


def complaint(source: Path) -> str:
    """Empty when the file is covered."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        measure = ["-m", "coverage", "run", "--branch", f"--data-file={data}", f"--include={source}"]
        run = [sys.executable, *measure, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(wanted(source))]
        result = subprocess.run(run, capture_output=True, text=True, check=False)
        shown = result.stdout + result.stderr
        if result.returncode == 0:
            covered, shown = report(data)
            if covered == 100.0:
                return ""
    return f"{source} by {wanted(source)} alone:\n{shown}"


def report(data: Path) -> tuple[float, str]:
    """Percent of lines and branches, and the table that says which are missing."""
    measured = coverage.Coverage(data_file=data)
    measured.load()
    table = io.StringIO()
    return measured.report(show_missing=True, file=table), table.getvalue()


def main(arguments: list[str]) -> int:
    if answered(arguments, __doc__):
        return 0
    files = [Path(name) for name in arguments] or list(sources())
    with ThreadPoolExecutor(2) as pool:
        complaints = [text for text in pool.map(complaint, files) if text]
    sys.stderr.write("".join(complaints))
    sys.stdout.write(f"{len(files) - len(complaints)} of {len(files)} files fully covered by their own test file\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
