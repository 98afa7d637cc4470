"""All figures in one go: which programs are run, and how their ends are told."""

import os
import shutil
from pathlib import Path

import pytest

from bench import publish as everything
from bench.pages import PICTURES, TABLES
from bench.publish import STEPS, format_results


def test_each_table_and_picture_of_the_docs_has_its_step() -> None:
    files = {file for file, _ in TABLES.values()} | {file for file, _ in PICTURES.values()}
    assert files <= {step.file for step in STEPS}


def test_all_of_them_take_less_than_three_quarters_of_an_hour() -> None:
    assert sum(step.minutes for step in STEPS) <= 45


def test_only_the_comparison_has_another_checkout_beside() -> None:
    commands = {step.name: step.command(Path("x"), quick=False, before=Path("y")) for step in STEPS}
    assert [name for name, command in commands.items() if "--before" in command] == ["bench"]
    assert all(command[-2:] == ["--json", f"x/{name}.json"] for name, command in commands.items())


def test_how_each_ended_is_said() -> None:
    assert [" ".join(line.split()) for line in format_results({"bench": (1, 90.0), "trips": (0, 6.0)})] == [
        "", "bench 1.5 min exit code 1: see above", "trips 0.1 min ok",
    ]  # fmt: skip


def test_a_step_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        everything.main(["--only", "bench,nothing"])
    assert "no such step: nothing" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go")
def test_a_quick_step_leaves_its_figures_and_the_docs_alone(tmp_path: Path) -> None:
    assert everything.main(["--quick", "--only", "trips", "--folder", str(tmp_path)]) in (0, 1)
    assert [each.name for each in tmp_path.iterdir()] == ["trips.json"]
