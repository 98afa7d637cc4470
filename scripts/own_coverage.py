"""Each file of the domain is covered, lines and branches, by its own test file alone.

Usage: own_coverage.py [FILE…]   without a file: all of connector_store/domain and connector_store/store.py
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import coverage
import pytest
from matching import needs_test, wanted
from usage import answered

LOADED: Final = ["__main__", "coverage", "hypothesis.stateful", "pytest", "pytest_asyncio.plugin", "xdist.plugin"]
"""Imported once, and measured by nobody, for all of the processes; nothing of what is covered."""
ARGUMENTS: Final = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
"""Of pytest, which would say of LOADED that it cannot rewrite their assertions any more."""


def sources() -> Iterator[Path]:
    yield from sorted(path for path in Path("connector_store/domain").rglob("*.py") if needs_test(path))
    yield Path("connector_store/store.py")


def complaint(source: Path) -> str:
    """Empty when the file is covered. For a process in which nothing of the file has been imported."""
    measured = coverage.Coverage(branch=True, data_file=None, include=[str(source)])
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        with measured.collect():
            failed = pytest.main([*ARGUMENTS, str(wanted(source))])
        if not failed and measured.report(show_missing=True) == 100.0:
            return ""
    return f"{source} by {wanted(source)} alone:\n{shown.getvalue()}"


def main(arguments: list[str]) -> int:
    if answered(arguments, __doc__):
        return 0
    files = [Path(name) for name in arguments] or list(sources())
    processes = get_context("forkserver")
    processes.set_forkserver_preload(LOADED)
    with ProcessPoolExecutor(2, processes, max_tasks_per_child=1) as pool:
        complaints = [text for text in pool.map(complaint, files) if text]
    sys.stderr.write("".join(complaints))
    sys.stdout.write(f"{len(files) - len(complaints)} of {len(files)} files fully covered by their own test file\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
