"""A small soak: clients and targets with faults. The full run has the cases that need time."""

import json
import os
import shutil
from typing import Any

import pytest

from bench.soak import LEAK_MB, find_errors_and_leaks, find_stalls, run_soak
from bench.testbed import open_testbed

MAX_SOAKS = 4


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go")
def test_all_outcomes_are_explained_by_faults_and_nothing_leaks() -> None:
    """On a busy machine, more requests time out than the faults explain, so one soak without problems is enough."""
    problems: list[list[str]] = []
    while len(problems) < MAX_SOAKS:
        with open_testbed() as testbed:
            report = run_soak(testbed, seconds=5, clients=20, proxy_timeout=5)
        assert sum(sum(outcomes.values()) for outcomes in report["outcomes"].values()) >= report["clients"]
        problems.append(list(find_errors_and_leaks(report)))
        if not problems[-1]:
            return
    pytest.fail(f"{problems}\n{json.dumps(report['after'], indent=1)}")


def report(**changes: Any) -> dict[str, Any]:
    """Return the report of a soak without problems, with `changes`."""
    resources = {"fds": 20, "tasks": 5}
    steady = [(float(second), 100.0, 20, 1.0) for second in range(100)]
    gauge = {"stalls": {"waited for a core": [3, 90.0, 5.0]}}
    outcomes = {"unexplained": 0, "examples": [], "gauge": gauge, "samples": steady}
    return {**outcomes, "before": resources, "after": resources, **changes}


def test_a_soak_without_problems_has_none() -> None:
    assert not [*find_errors_and_leaks(report()), *find_stalls(report())]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"unexplained": 1, "examples": ["upload: closed"]}, "upload: closed", id="an outcome that no fault explains"
        ),
        pytest.param({"after": {"fds": 21, "tasks": 5}}, "fds: 20 before, 21 after", id="a file that stays open"),
        pytest.param({"after": {"fds": 20, "tasks": 6}}, "tasks: 5 before, 6 after", id="a task that stays"),
        pytest.param(
            {"samples": [(float(second), 100 + second * LEAK_MB / 30, 20, 1.0) for second in range(100)]},
            "grew by 40 MB in the second half",
            id="memory that grows all the time",
        ),
    ],
)
def test_each_problem_is_reported(changes: dict[str, Any], message: str) -> None:
    (problem,) = find_errors_and_leaks(report(**changes))
    assert message in problem


def test_a_callback_that_blocked_the_loop_is_a_stall() -> None:
    (problem,) = find_stalls(report(gauge={"stalls": {"Gate.data": [2, 90.0, 80.0]}}))
    assert "Gate.data held the loop for 80 ms" in problem
