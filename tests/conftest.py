"""A test that uses a fixture of a real cluster is marked `cluster` or `node`; their programs are built first."""

import atexit
import contextlib
import functools
import gc
import os
import sys
from collections import Counter
from collections.abc import Generator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from lab import client_programs
from lab.programs import ProgramsMissingError, control_plane_programs, node_programs

pytest_plugins = ["tests.cluster.fixtures", "tests.node.fixtures", "tests.journey.fixtures"]

ROOT = Path(__file__).parents[1]
# What tests start runs the code that lies beside them, whatever tree the environment was installed from.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

FIXTURE_MARKS = {
    "promtool": ("node", 600),
    "cluster_programs": ("cluster", 240),
    "helm": ("cluster", 240),
    "client_programs": ("clients", 900),
    "isolated_node_programs": ("node", 600),
}
"""Fixture -> the mark of tests that use it, and their time limit in seconds on a busy machine, start-up included."""

STAGE_FOLDERS = {
    "cluster and not clients and not node": (
        "cluster",
        "lab",
        "release",
        "node",
        "addons/server/test_cluster.py",
        "bench/test_kubectl.py",
        "connector_store/kube/test_events.py",
    ),
    "clients": ("clients",),
    "node": ("node", "journey", "monitoring"),
}
"""Value of `-m` in scripts/test -> all that is read for it: to import the rest takes as long as many a test."""

MARKS_WITH_PROGRAMS = ("slow", "cluster", "clients", "node")
STAGES_WITHOUT_CLUSTER = ("not slow and not cluster and not node", "slow and not cluster and not node")
CLUSTER_ONLY_FOLDERS = (
    "cluster/connectorctl",
    "cluster/controller",
    "cluster/kube",
    "cluster/permissions",
    "journey",
    "node",
)
"""What is not read for the values of `-m` in OTHER_STAGES, by each of their workers."""
_HERE = Path(__file__).parent

PROCESS_START_EVENTS: Final = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"})
"""Python's audit events of what begins another program."""
_current_unit_test: list[str] = []
"""The test that runs, if it may start none."""

# Tests read the logs of the processes that they start as people do; test_logs.py reads the other form.
os.environ.setdefault("CONNECTORS_LOG_FORMAT", "text")

# No deadline: a busy machine is no failure. In CI every run draws the same examples.
hypothesis.settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
# Fewer, and others in each run: `scripts/test unit` outside of CI, which people wait for many times a day.
hypothesis.settings.register_profile("inner-loop", hypothesis.settings.get_profile("ours"), max_examples=30)
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=("asyncio", "uvloop"),
        default="asyncio",
        help="uvloop: only what runs the proxy in its process",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """None leaves the answer to others."""
    stage = config.option.markexpr
    if stage in STAGES_WITHOUT_CLUSTER and is_cluster_only(collection_path):
        return True
    folders = STAGE_FOLDERS.get(stage)
    if folders is None or not collection_path.is_relative_to(_HERE):
        return None
    relative_path = collection_path.relative_to(_HERE)
    is_collected = any(
        relative_path.is_relative_to(place) or Path(place).is_relative_to(relative_path) for place in folders
    )
    return None if is_collected else True


@functools.cache
def is_cluster_only(path: Path) -> bool:
    """Thousands of tests lie in some hundred files."""
    return any(path.is_relative_to(_HERE / place) for place in CLUSTER_ONLY_FOLDERS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before `-m` chooses. UsageError for a test that a stage would not read."""
    if config.option.loop == "uvloop":
        items[:] = [item for item in items if isinstance(item, pytest.Function) and iscoroutinefunction(item.function)]
    for item in items:
        for fixture, (mark, seconds) in FIXTURE_MARKS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)
                if item.get_closest_marker("timeout") is None:
                    item.add_marker(pytest.mark.timeout(seconds))
        marks = [each for each in ("node", "clients", "cluster") if item.get_closest_marker(each)]
        stage = next((each for each in STAGE_FOLDERS if marks and each.startswith(marks[0])), None)
        if stage and not any(item.path.is_relative_to(_HERE / place) for place in STAGE_FOLDERS[stage]):
            raise pytest.UsageError(
                f"{item.nodeid}: for -m '{stage}' only {', '.join(STAGE_FOLDERS[stage])} is read; name it in PLACES"
            )
        if not marks and is_cluster_only(item.path):
            raise pytest.UsageError(f"{item.nodeid}: no stage reads it there, as it uses no cluster; put it elsewhere")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Outside of any test's time limit, progress on the terminal; what is missing is said by the tests."""
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


# Python looks through the whole heap once more when it ends, for nothing: each process of a stage does so for a second.
atexit.register(gc.freeze)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is made meanwhile stays: there is nothing to look for, neither now nor when tests leave garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _current_unit_test[:] = [] if any(item.get_closest_marker(each) for each in MARKS_WITH_PROGRAMS) else [item.nodeid]
    try:
        return (yield)
    finally:
        _current_unit_test.clear()


def forbid_programs(event: str, _: tuple[object, ...]) -> None:
    """Nothing that `scripts/test unit` runs waits for a program to start."""
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
    """In CI nothing may be left out for want of a program."""
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {skip_reason(report)}"


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason, however many tests it keeps from running."""
    reasons = Counter(skip_reason(report) for report in terminalreporter.getreports("skipped"))
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} {reason.replace('Skipped: ', 'skipped: ', 1)}")
