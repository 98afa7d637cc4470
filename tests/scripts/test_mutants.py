"""scripts/mutants, and the list of bugs."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from mutants import MUTANTS_FILE, ROOT, Mutant, read_mutants, run_mutant

SOURCE = "def double(number):\n    return number * 2\n"


@pytest.mark.parametrize(
    ("was", "test", "result"),
    [
        pytest.param(
            "* 2",
            "from thing import double\ndef test_it():\n    assert double(2) == 4\n",
            "seen",
            id="seen",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "* 2", "import thing\ndef test_it():\n    assert thing\n", "NOT SEEN", id="not seen", marks=pytest.mark.slow
        ),
        pytest.param("* 9", "def test_it():\n    assert False\n", "does not apply", id="a line that does not exist"),
        pytest.param("number", "def test_it():\n    assert False\n", "does not apply", id="a text that occurs twice"),
    ],
)
def test_a_bug_is_detected_or_not_and_is_removed_afterwards(tmp_path: Path, was: str, test: str, result: str) -> None:
    (tmp_path / "thing.py").write_text(SOURCE)
    (tmp_path / "test_thing.py").write_text(test)
    mutant = Mutant(id="M", file="thing.py", was=was, now="* 3", tests=("test_thing.py",), why="a bug")
    assert run_mutant(tmp_path, mutant, all_unit=False) == result
    assert (tmp_path / "thing.py").read_text() == SOURCE


@pytest.mark.slow
def test_missing_tests_are_an_error_and_not_a_result(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text(SOURCE)
    mutant = Mutant(id="M", file="thing.py", was="* 2", now="* 3", tests=("test_absent.py",), why="a bug")
    with pytest.raises(RuntimeError, match="test_absent"):
        run_mutant(tmp_path, mutant, all_unit=False)
    assert (tmp_path / "thing.py").read_text() == SOURCE


def test_every_bug_of_the_list_has_a_unique_id_and_existing_tests() -> None:
    mutants = list(read_mutants(MUTANTS_FILE))
    assert [name for name, number in Counter(mutant.id for mutant in mutants).items() if number > 1] == []
    assert [mutant.id for mutant in mutants if mutant.was == mutant.now or not mutant.tests] == []
    assert [name for mutant in mutants for name in mutant.tests if not exists(name)] == []


def test_every_bug_of_the_list_can_be_put_in() -> None:
    texts = {mutant.file: (ROOT / mutant.file).read_text() for mutant in read_mutants(MUTANTS_FILE)}
    assert [mutant.id for mutant in read_mutants(MUTANTS_FILE) if texts[mutant.file].count(mutant.was) != 1] == []


def exists(test: str) -> bool:
    """Return True if the test is a file, or a function in a file."""
    name, _, function = test.partition("::")
    path = ROOT / name
    return path.is_file() and (not function or f"def {function}(" in path.read_text())
