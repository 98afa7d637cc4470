"""`connectorctl token`."""

from pathlib import Path

import pytest

from tests.connectorctl.cli_result import RunCli

NAME = "default/k8s-connector"


def test_the_output_is_one_line(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli(f"token {NAME} --confdir confdir")
    assert (code, out.count("\n"), out.count("."), err) == (0, 1, 2, "")


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        pytest.param("token default/absent", 1, '"absent" not found', id="a missing Connector"),
        pytest.param(f"token {NAME} --ttl 25h --confdir confdir", 2, "longer than 24h", id="a token for too long"),
        pytest.param(f"token {NAME} --source kubernetes", 2, "--service-account", id="an option is missing"),
    ],
)
def test_a_failure_has_its_exit_code_and_reason(
    run_cli: RunCli, connectors: Path, line: str, code: int, message: str
) -> None:
    result = run_cli(line)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert message in result.err
