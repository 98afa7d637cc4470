"""`connectorctl version`."""

from connector_store.version import VERSION
from tests.connectorctl.cli_result import RunCli


def test_it_is_the_projects(run_cli: RunCli) -> None:
    assert run_cli("version") == (0, f"connectorctl {VERSION}\n", "")
