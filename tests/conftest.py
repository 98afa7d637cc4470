"""Marks for tests that use real clusters, and the stages that run them.

A test that uses a fixture of a real cluster is marked `cluster`, `clients` or `node`. The programs of these fixtures
are built before the first test. A stage of scripts/test is a value of `-m`; for each, pytest imports only the folders
that contain its tests, because importing all of them takes as long as many tests.
"""

import atexit
import contextlib
import functools
import gc
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from lab import client_programs
from lab.go_modules import ProgramsMissingError
from lab.programs import K9S, TEKTON, control_plane_programs, ensure_programs, node_programs
from lab.wall_clock import WallClock, find_libfaketime, remove_shared_memory
from tests import fuzz

pytest_plugins = ["tests.cluster.fixtures", "tests.node.fixtures", "tests.journey.fixtures"]

ROOT = Path(__file__).parents[1]
# Programs that tests start run the code of this tree, even if the environment was installed from another one.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

FIXTURE_MARKS = {
    "promtool": ("node", 1800),
    "cluster_programs": ("cluster", 900),
    "helm": ("cluster", 900),
    "request_info_program": ("cluster", 900),
    "gateway_programs": ("cluster", 900),
    "lua_program": ("cluster", 900),
    "client_programs": ("clients", 1800),
    "mcp_folder": ("clients", 1800),
    "axe_script": ("clients", 1800),
    "k9s_program": ("k9s", 1800),
    "tekton_programs": ("tekton", 1800),
    "isolated_node_programs": ("node", 1800),
}
"""Mark of the tests that use a fixture, and their time limit in seconds on a busy machine, including start-up."""

STAGE_FOLDERS = {
    "cluster and not clients and not node": (
        "cluster",
        "lab",
        "release",
        "node",
        "addons/server/test_cluster.py",
        "bench/test_access_flow.py",
        "bench/test_kubectl_latency.py",
        "connector_store/kube/test_events.py",
    ),
    "clients": ("clients",),
    "k9s": ("clients/test_k9s.py",),
    "tekton": ("tekton",),
    "node": ("node", "journey", "monitoring", "cluster/kube/test_two_releases.py"),
}
"""Folders and files that are imported for a value of `-m`."""

MARKS_WITH_PROGRAMS = ("slow", "cluster", "clients", "node")
STAGES_WITHOUT_CLUSTER = (
    "not slow and not cluster and not clients and not node",
    "slow and not cluster and not clients and not node",
)
CLUSTER_ONLY_FOLDERS = (
    "cluster/connectorctl",
    "cluster/controller",
    "cluster/kube",
    "cluster/permissions",
    "journey",
    "node",
    "tekton",
)
"""Folders that are not imported for the values of `-m` in STAGES_WITHOUT_CLUSTER."""
_HERE = Path(__file__).parent

PROCESS_START_EVENTS: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"})
"""Audit events of Python for the start of a program."""
_current_unit_test: list[str] = []
"""ID of the running test, if it must not start a program; empty otherwise."""

# Tests read the logs of the processes that they start in the text format; test_logs.py reads the JSON format.
os.environ.setdefault("CONNECTORS_LOG_FORMAT", "text")

# No limits of time, because a busy machine is not a failure. In CI every run draws the same examples.
hypothesis.settings.register_profile(
    "ours",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
# `scripts/test unit` outside of CI draws fewer examples, and other ones in each run, because people wait for it.
hypothesis.settings.register_profile("inner-loop", hypothesis.settings.get_profile("ours"), max_examples=30)
hypothesis.settings.register_profile(
    fuzz.PROFILE, hypothesis.settings.get_profile("ours"), derandomize=False, max_examples=100 * fuzz.FACTOR
)
hypothesis.settings.load_profile("ours")


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[WallClock]:
    """Wall clock of the programs that a test starts with its environment."""
    library = find_libfaketime()
    if library is None:
        pytest.skip("libfaketime is not installed; install it with: scripts/install --node")
    yield WallClock(library, tmp_path / "wall-clock")
    remove_shared_memory()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=("asyncio", "uvloop"),
        default="asyncio",
        help="event loop; with uvloop only the tests that run the proxy in their own process",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the folders that do not belong to the stage. None leaves the decision to other plugins."""
    stage = config.option.markexpr
    if stage in STAGES_WITHOUT_CLUSTER and is_cluster_only(collection_path):
        return True
    folders = STAGE_FOLDERS.get(stage)
    if folders is None or not collection_path.is_relative_to(_HERE):
        return None
    relative_path = collection_path.relative_to(_HERE)
    is_collected = any(
        relative_path.is_relative_to(folder) or Path(folder).is_relative_to(relative_path) for folder in folders
    )
    return None if is_collected else True


@functools.cache
def is_cluster_only(path: Path) -> bool:
    """Return True if `path` is in CLUSTER_ONLY_FOLDERS. Cached, because thousands of tests are in hundreds of files."""
    return any(path.is_relative_to(_HERE / folder) for folder in CLUSTER_ONLY_FOLDERS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the marks before `-m` selects tests. Raise UsageError for a test whose stage would not import its file."""
    if config.option.loop == "uvloop":
        items[:] = [item for item in items if isinstance(item, pytest.Function) and iscoroutinefunction(item.function)]
    is_fuzzing = config.option.markexpr == "fuzz"
    for item in items:
        for fixture, (mark, seconds) in FIXTURE_MARKS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)
                if item.get_closest_marker("timeout") is None:
                    item.add_marker(pytest.mark.timeout(0 if is_fuzzing else seconds))
        marks = [mark for mark in ("node", "clients", "k9s", "tekton", "cluster") if item.get_closest_marker(mark)]
        stage = next((stage for stage in STAGE_FOLDERS if marks and stage.startswith(marks[0])), None)
        if stage and not any(item.path.is_relative_to(_HERE / folder) for folder in STAGE_FOLDERS[stage]):
            raise pytest.UsageError(
                f"{item.nodeid}: for -m '{stage}' only {', '.join(STAGE_FOLDERS[stage])} are imported; "
                "add its file to STAGE_FOLDERS"
            )
        if not marks and is_cluster_only(item.path):
            raise pytest.UsageError(
                f"{item.nodeid}: no stage imports this file, because the test uses no cluster; move it"
            )
    # So that the other tests run meanwhile. At the end, the machine would be idle.
    items.sort(key=lambda item: item.get_closest_marker("waits") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs outside of any test's time limit, with progress on the terminal.

    If a program cannot be built, the tests that need it say so.
    """
    if session.config.option.collectonly:
        return
    marks = {mark.name for item in session.items for mark in item.iter_markers()}
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with contextlib.suppress(ProgramsMissingError), capture.global_and_fixture_disabled():
        if "cluster" in marks:
            control_plane_programs()
        if "node" in marks:
            node_programs()
        if "clients" in marks:
            client_programs.build_all()
        if "k9s" in marks:
            ensure_programs(K9S, ["k9s"])
        if "tekton" in marks:
            ensure_programs(TEKTON, ["controller"])


# Without this, Python would search the whole heap for garbage when it ends. That takes each process a second.
atexit.register(gc.freeze)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude the objects that are created during collection from garbage collection, because they stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _current_unit_test[:] = [] if any(item.get_closest_marker(mark) for mark in MARKS_WITH_PROGRAMS) else [item.nodeid]
    try:
        return (yield)
    finally:
        _current_unit_test.clear()


def forbid_programs(event: str, _: tuple[object, ...]) -> None:
    """Fail a unit test that starts a program, so that `scripts/test unit` stays fast."""
    if _current_unit_test and event in PROCESS_START_EVENTS:
        pytest.fail(f"{_current_unit_test[0]} starts a program ({event}): mark it slow")


sys.addaudithook(forbid_programs)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not hasattr(report, "wasxfail"):
        fail_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    fail_skip(report)
    return report


def fail_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skipped test into a failed one in CI, where all programs must be available."""
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {skip_reason(report)}"


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line for each reason to skip tests, with the number of tests."""
    reasons = Counter(skip_reason(report) for report in terminalreporter.getreports("skipped"))
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} {reason.replace('Skipped: ', 'skipped: ', 1)}")
