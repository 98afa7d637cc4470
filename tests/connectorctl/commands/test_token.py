"""`connectorctl token`."""

from pathlib import Path

import jwt
import pytest
import yaml
from kubernetes import config
from kubernetes.client import Configuration

from tests.connectorctl.cli_result import RunCli

NAME = "default/k8s-connector"


def test_the_output_is_one_line(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli(f"token {NAME} --confdir confdir")
    assert (code, out.count("\n"), out.count("."), err) == (0, 1, 2, "")


def test_a_file_is_replaced_by_the_token_alone(run_cli: RunCli, connectors: Path, workdir: Path) -> None:
    (workdir / "context.token").write_text("old\n")
    assert run_cli(f"token {NAME} --confdir confdir -o context.token") == (0, "", "wrote context.token\n")
    token = (workdir / "context.token").read_text()
    assert (token.count("."), token) == (2, token.strip())
    assert (workdir / "context.token").stat().st_mode & 0o777 == 0o600


def test_the_python_client_reads_a_renewed_token_of_a_rotating_kubeconfig(
    run_cli: RunCli, connectors: Path, workdir: Path
) -> None:
    assert run_cli(f"kubeconfig {NAME} --confdir confdir --direct --rotating -o kubeconfig").code == 0
    assert run_cli(f"token {NAME} --confdir confdir -o context.token").code == 0
    configuration = Configuration()
    config.load_kube_config(str(workdir / "kubeconfig"), client_configuration=configuration)
    assert configuration.api_key["BearerToken"] == f"Bearer {(workdir / 'context.token').read_text()}"
    assert configuration.api_key["BearerToken"].isprintable()


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


def test_a_caller_has_a_name(run_cli: RunCli, connectors: Path) -> None:
    result = run_cli("token --confdir confdir --as-caller ci:build")
    claims = jwt.decode(result.out.strip(), options={"verify_signature": False})
    assert (claims["sub"], claims["caller"]) == ("default/k8s-connector", "ci:build")
    assert "caller" not in jwt.decode(
        run_cli("token --confdir confdir").out.strip(), options={"verify_signature": False}
    )


def test_a_plugin_gets_tokens_for_the_same_caller(run_cli: RunCli, connectors: Path) -> None:
    (user,) = yaml.safe_load(run_cli("kubeconfig --exec --confdir confdir --as-caller ci:build").out)["users"]
    arguments = user["user"]["exec"]["args"]
    assert arguments[arguments.index("--as-caller") + 1] == "ci:build"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("token --as-caller system:masters", "--as-caller: a caller's name contains no /"),
        ("token default/a --source kubernetes --service-account a/b --as-caller x", "--as-caller: is for folders"),
    ],
)
def test_a_name_that_is_not_possible(run_cli: RunCli, connectors: Path, line: str, message: str) -> None:
    result = run_cli(line)
    assert result.code == 2
    assert message in result.err
