"""`connectorctl credential`."""

import json
from pathlib import Path

from tests.connectorctl.typed import Type

NAME = "default/k8s-connector"


def test_it_is_a_token_for_kubectl(typed: Type, connectors: Path) -> None:
    code, out, err = typed(f"credential {NAME} --confdir confdir")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["kind"] == "ExecCredential"
    assert found["status"]["token"].count(".") == 2
    assert found["status"]["expirationTimestamp"].endswith("Z")


def test_a_connector_that_is_not_there_is_said(typed: Type, connectors: Path) -> None:
    code, out, err = typed("credential default/absent --confdir confdir")
    assert (code, out) == (1, "")
    assert '"absent" not found' in err


def test_a_caller_from_outside_has_a_token_already(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c\n")
    code, out, err = typed(f"credential --oidc file:{tmp_path}/token")
    assert (code, err) == (0, "")
    assert json.loads(out)["status"] == {"token": "a.b.c"}


def test_somebody_has_to_be_named(typed: Type) -> None:
    code, out, err = typed("credential")
    assert (code, out) == (2, "")
    assert "--oidc" in err


def test_an_audience_is_that_of_an_issuers_token(typed: Type, connectors: Path) -> None:
    code, out, err = typed("credential default/k8s-connector --confdir confdir --audience x")
    assert (code, out) == (2, "")
    assert "--audience goes with --oidc" in err
