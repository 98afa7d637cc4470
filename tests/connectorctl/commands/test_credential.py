"""`connectorctl credential`."""

import json
from pathlib import Path

from tests.connectorctl.cli_result import RunCli

NAME = "default/k8s-connector"


def test_the_output_is_an_exec_credential(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli(f"credential {NAME} --confdir confdir")
    assert (code, err) == (0, "")
    credential = json.loads(out)
    assert credential["kind"] == "ExecCredential"
    assert credential["status"]["token"].count(".") == 2
    assert credential["status"]["expirationTimestamp"].endswith("Z")


def test_a_missing_connector_is_reported(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli("credential default/absent --confdir confdir")
    assert (code, out) == (1, "")
    assert '"absent" not found' in err


def test_an_oidc_caller_has_its_own_token(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c\n")
    code, out, err = run_cli(f"credential --oidc file:{tmp_path}/token")
    assert (code, err) == (0, "")
    assert json.loads(out)["status"] == {"token": "a.b.c"}


def test_the_only_connector_needs_no_name(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli("credential --confdir confdir")
    assert (code, err) == (0, "")
    assert json.loads(out)["status"]["token"].startswith("eyJ")


def test_audience_requires_oidc(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli("credential default/k8s-connector --confdir confdir --audience x")
    assert (code, out) == (2, "")
    assert "--audience goes with --oidc" in err
