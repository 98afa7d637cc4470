"""`connectorctl version`."""

from connector_store.version import VERSION
from tests.connectorctl.typed import Type


def test_it_is_the_projects(typed: Type) -> None:
    assert typed("version") == (0, f"connectorctl {VERSION}\n", "")
