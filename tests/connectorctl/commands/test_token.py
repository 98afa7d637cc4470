"""`connectorctl token`."""

from pathlib import Path

import pytest

from tests.connectorctl.typed import Type

NAME = "default/k8s-connector"


def test_it_is_one_line(typed: Type, connectors: Path) -> None:
    code, out, err = typed(f"token {NAME} --confdir confdir")
    assert (code, out.count("\n"), out.count("."), err) == (0, 1, 2, "")


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        pytest.param("token default/absent", 1, '"absent" not found', id="a Connector that is not there"),
        pytest.param(f"token {NAME} --ttl 25h --confdir confdir", 2, "longer than 24h", id="a token for too long"),
        pytest.param(f"token {NAME} --source kubernetes", 2, "--service-account", id="an option is missing"),
    ],
)
def test_a_failure_has_its_code_and_says_why(typed: Type, connectors: Path, line: str, code: int, message: str) -> None:
    done = typed(line)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert message in done.err
