"""Check that each file of the domain is covered by its own test file alone, lines and branches.

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
from missing_tests import expected_test_file, needs_test
from usage import show_help

PRELOADED_MODULES: Final = [
    "__main__",
    "coverage",
    "hypothesis.stateful",
    "pytest",
    "pytest_asyncio.plugin",
    "xdist.plugin",
]
"""Modules that are imported once for all processes. None of them is measured."""
PYTEST_ARGUMENTS: Final = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
"""Arguments of pytest. Without the filter it would warn that it cannot rewrite assertions of PRELOADED_MODULES."""


def sources() -> Iterator[Path]:
    yield from sorted(path for path in Path("connector_store/domain").rglob("*.py") if needs_test(path))
    yield Path("connector_store/store.py")


def check_file(source: Path) -> str:
    """Return an empty string if the file is covered. The process must not have imported the file before."""
    recorder = coverage.Coverage(branch=True, data_file=None, include=[str(source)])
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        with recorder.collect():
            failed = pytest.main([*PYTEST_ARGUMENTS, str(expected_test_file(source))])
        if not failed and recorder.report(show_missing=True) == 100.0:
            return ""
    return f"{source} by {expected_test_file(source)} alone:\n{output.getvalue()}"


def main(arguments: list[str]) -> int:
    if show_help(arguments, __doc__):
        return 0
    files = [Path(name) for name in arguments] or list(sources())
    processes = get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED_MODULES)
    with ProcessPoolExecutor(2, processes, max_tasks_per_child=1) as pool:
        problems = [text for text in pool.map(check_file, files) if text]
    sys.stderr.write("".join(problems))
    sys.stdout.write(f"{len(files) - len(problems)} of {len(files)} files fully covered by their own test file\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
