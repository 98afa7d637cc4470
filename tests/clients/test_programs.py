"""When a client has done everything that it begins with."""

import pytest

from tests.clients.programs import did_everything

BEGUN = ["got sown", "listed seed", "watched ADDED first", "watched MODIFIED second"]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(BEGUN, id="it said all"),
        pytest.param(["a warning", *BEGUN[:2], "listed more", *BEGUN[2:]], id="it listed more, and warned"),
        pytest.param([*BEGUN, "watched ADDED second"], id="its watch has ended, and the next one shows the same"),
        pytest.param([*BEGUN[:2], "watched MODIFIED first", BEGUN[3]], id="an operator"),
    ],
)
def test_it_did_everything(lines: list[str]) -> None:
    assert did_everything("\n".join(lines))


@pytest.mark.parametrize("absent", BEGUN)
def test_without_one_of_its_lines_it_did_not(absent: str) -> None:
    assert not did_everything("\n".join(line for line in BEGUN if line != absent))
