"""scripts/stages.py: the stages of scripts/test, their marks, and their lanes."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import fuzz
from tests.conftest import STAGE_FOLDERS, STAGES_WITHOUT_CLUSTER

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import stages
from stages import CLUSTER, PYTEST_ON_A_NODE, SLOW, STAGES, UNIT, journey_tests, main, node_lanes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Return the commands that stages run. Each succeeds, except those that contain `fails`."""
    run: list[tuple[str, ...]] = []

    async def run_command(*command: str) -> int:
        run.append(command)
        return 3 if "fails" in command else 0

    monkeypatch.setattr(stages, "run_command", run_command)
    monkeypatch.chdir(ROOT)
    return run


def test_the_marks_are_those_for_which_conftest_limits_the_imports() -> None:
    assert {UNIT, SLOW} == set(STAGES_WITHOUT_CLUSTER)
    assert {CLUSTER, "clients", "k9s", "tekton", "node"} == set(STAGE_FOLDERS)


def test_the_shell_script_accepts_the_same_stages() -> None:
    accepted = re.search(r"^  ([a-z_|]+)\) scripts/install ;;$", (ROOT / "scripts" / "test").read_text(), re.MULTILINE)
    assert accepted is not None
    assert accepted[1].split("|") == list(STAGES)


@pytest.mark.parametrize(
    ("ci", "profile"), [("", ("--hypothesis-profile", "inner-loop")), ("true", ())], ids=["outside of CI", "in CI"]
)
def test_arguments_of_pytest_are_passed_on(
    commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, ci: str, profile: Sequence[str]
) -> None:
    monkeypatch.setenv("CI", ci)
    assert main(["unit", "-k", "framing"]) == 0
    assert commands[0][-len(profile) - 4 :] == ("-m", UNIT, *profile, "-k", "framing")


def test_fuzz_runs_the_marked_tests_with_its_profile_and_without_a_time_limit(commands: list[tuple[str, ...]]) -> None:
    assert main(["fuzz", "-k", "hostile"]) == 0
    options = ("--hypothesis-profile", fuzz.PROFILE, "--timeout", "0")
    assert commands[-1][-8:] == ("-m", "fuzz", *options, "-k", "hostile")


def test_versions_runs_the_smallest_set_with_each_version_also_after_a_failure(commands: list[tuple[str, ...]]) -> None:
    assert main(["versions"]) == 0
    assert "ROLLOUT_NODES=1000" in commands.pop()
    assert [commands.pop()[-2:] for _ in range(2)] == [("-m", "tekton"), ("-m", "k9s")]
    assert [command[3:5] for command in commands] == list(stages.VERSIONS)
    assert all(command[-len(stages.VERSION_TESTS) :] == stages.VERSION_TESTS for command in commands)
    for path, _, name in (each.partition("::") for each in stages.VERSION_TESTS):
        assert not name or f"def {name}(" in (ROOT / path).read_text()
    commands.clear()
    assert main(["versions", "fails"]) == 3
    assert len(commands) == len(stages.VERSIONS)


def test_the_exit_code_is_that_of_the_command(commands: list[tuple[str, ...]]) -> None:
    assert main(["slow", "fails"]) == 3


def test_an_unknown_stage_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert 'stage "nothing" does not exist' in capsys.readouterr().err


def test_the_image_lane_starts_first() -> None:
    common = ["image", "other_nodes", "journey_ends", "journey_begins"]
    assert list(node_lanes()) == [*common, "clients_and_upgrade"]
    assert list(node_lanes(with_clusters=True)) == [*common, "clusters", "clients_everywhere"]


def test_a_node_with_arguments_builds_the_images_and_runs_one_command(commands: list[tuple[str, ...]]) -> None:
    assert main(["node", "-k", "upgrade"]) == 0
    assert [command[0] for command in commands[-3:-1]] == ["scripts/image", "scripts/former"]
    assert commands[-1] == (*PYTEST_ON_A_NODE, "-k", "upgrade")


def test_both_lanes_of_the_journey_have_all_its_tests() -> None:
    tests = journey_tests("[0-4]") + journey_tests("[5-9]")
    assert tests == sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests" / "journey").glob("test_*.py"))
