"""A test that uses a fixture of a real cluster is marked `cluster` or `node`; their programs are built first."""

import contextlib
import os

import hypothesis
import pytest

from tests.cluster.programs import ProgramsMissingError, control_plane_programs, node_programs

pytest_plugins = ["tests.cluster.fixtures", "tests.node.fixtures"]

MARKS = {"cluster_programs": ("cluster", 240), "isolated_node_programs": ("node", 600)}
"""Fixture -> the mark of tests that use it, and their time limit in seconds on a busy machine, start-up included."""

# No deadline: a busy machine is no failure. In CI every run draws the same examples.
hypothesis.settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("ours")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m` chooses."""
    for item in items:
        for fixture, (mark, seconds) in MARKS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)
                if item.get_closest_marker("timeout") is None:
                    item.add_marker(pytest.mark.timeout(seconds))


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


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In CI nothing of ours may be skipped for want of a program: a skip is a failure there."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
