"""The check of a client's output, and the code that it shares with docs/clients.md."""

import pytest

from lab.client_programs import PINS
from tests.clients.programs import documented_java, has_completed

BEGUN = ["got sown", "listed seed", "watched ADDED first", "watched MODIFIED second"]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(BEGUN, id="it said all"),
        pytest.param(["a warning", *BEGUN[:2], "listed more", *BEGUN[2:]], id="it listed more, and warned"),
        pytest.param([*BEGUN, "watched ADDED second"], id="its watch has ended, and the next one shows the same"),
        pytest.param([*BEGUN[:3], "watched ADDED second"], id="its watch has ended before the change"),
        pytest.param([*BEGUN[:2], "watched MODIFIED first", BEGUN[3]], id="an operator"),
    ],
)
def test_a_complete_output_is_complete(lines: list[str]) -> None:
    assert has_completed("\n".join(lines))


@pytest.mark.parametrize("absent", BEGUN)
def test_an_output_without_one_of_its_lines_is_incomplete(absent: str) -> None:
    assert not has_completed("\n".join(line for line in BEGUN if line != absent))


def test_the_official_java_client_is_configured_as_documented() -> None:
    program = (PINS / "java/src/main/java/WithOfficial.java").read_text()
    which, what = documented_java().split("\n", 1)
    assert which == 'Path file = Path.of("/connector/https.proxy");'
    assert " ".join(what.split()) in " ".join(program.split())
