"""A test that uses a fixture of a real cluster is marked `cluster`; the programs are built before the first test."""

import os

import hypothesis
import pytest

from tests.cluster.programs import ProgramsMissingError, control_plane_programs

pytest_plugins = ["tests.cluster.fixtures"]

# No deadline: a busy machine is no failure. In CI every run draws the same examples.
hypothesis.settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("ours")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m` chooses."""
    for item in items:
        if "cluster_programs" in getattr(item, "fixturenames", ()):
            item.add_marker("cluster")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Outside of any test's time limit, progress on the terminal; what is missing is said by the tests."""
    if session.config.option.collectonly or not any(item.get_closest_marker("cluster") for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            control_plane_programs()
    except ProgramsMissingError:
        return


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In CI nothing of ours may be skipped for want of a program: a skip is a failure there."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
