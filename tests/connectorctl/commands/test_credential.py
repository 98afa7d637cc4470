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
