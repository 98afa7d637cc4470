"""Settings from the environment."""

import pytest

from connector_store.domain.base.errors import ParseError
from connectorctl.settings import load_settings


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_AUDIENCE", "ours")
    assert load_settings().audience == "ours"


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_DRAIN", "soon")
    with pytest.raises(ParseError, match="CONNECTORS_DRAIN"):
        load_settings()
