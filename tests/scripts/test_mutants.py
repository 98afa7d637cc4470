"""scripts/mutants: which bugs the tests see; and the list of them."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from mutants import MUTANTS_FILE, ROOT, Mutant, read_mutants, run_mutant

SOURCE = "def double(number):\n    return number * 2\n"


@pytest.mark.parametrize(
    ("was", "test", "verdict"),
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
        pytest.param("* 9", "def test_it():\n    assert False\n", "does not apply", id="of a line that is no more"),
        pytest.param("number", "def test_it():\n    assert False\n", "does not apply", id="of two lines"),
    ],
)
def test_a_bug_is_seen_or_not_and_is_gone_afterwards(tmp_path: Path, was: str, test: str, verdict: str) -> None:
    (tmp_path / "thing.py").write_text(SOURCE)
    (tmp_path / "test_thing.py").write_text(test)
    mutant = Mutant(id="M", file="thing.py", was=was, now="* 3", tests=("test_thing.py",), why="a bug")
    assert run_mutant(tmp_path, mutant, all_unit=False) == verdict
    assert (tmp_path / "thing.py").read_text() == SOURCE


@pytest.mark.slow
def test_a_selection_that_is_none_is_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text(SOURCE)
    mutant = Mutant(id="M", file="thing.py", was="* 2", now="* 3", tests=("test_absent.py",), why="a bug")
    with pytest.raises(RuntimeError, match="test_absent"):
        run_mutant(tmp_path, mutant, all_unit=False)
    assert (tmp_path / "thing.py").read_text() == SOURCE


def test_every_bug_of_the_list_has_a_name_of_its_own_and_tests_that_are_there() -> None:
    listed = list(read_mutants(MUTANTS_FILE))
    assert [name for name, number in Counter(each.id for each in listed).items() if number > 1] == []
    assert [each.id for each in listed if each.was == each.now or not each.tests] == []
    assert [name for each in listed for name in each.tests if not is_there(name)] == []


def is_there(test: str) -> bool:
    """A file, or a function in it."""
    name, _, function = test.partition("::")
    path = ROOT / name
    return path.is_file() and (not function or f"def {function}(" in path.read_text())
