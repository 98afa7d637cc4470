"""`connectorctl version`."""

import pytest
import yaml

from connector_store.version import VERSION
from tests.connectorctl.cli_result import RunCli


def test_it_is_the_projects(run_cli: RunCli) -> None:
    assert run_cli("version") == (0, f"connectorctl {VERSION}\n", "")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_the_version_can_be_data(run_cli: RunCli, form: str) -> None:
    assert yaml.safe_load(run_cli(f"version -o {form}").out) == {"version": VERSION}
