"""Start of the process."""

import pytest

from connector_store.domain.base.errors import ParseError
from connectorctl.invocation import Invocation


@pytest.mark.parametrize(("plugin", "in_pod"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_plugin_and_a_pod_prefer_the_cluster(plugin: bool, in_pod: bool) -> None:
    assert Invocation(is_plugin=plugin, in_pod=in_pod).prefers_cluster == (plugin or in_pod)


def test_settings_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_AUDIENCE", "ours")
    assert Invocation().settings.audience == "ours"


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_DRAIN", "soon")
    with pytest.raises(ParseError, match="CONNECTORS_DRAIN"):
        _ = Invocation().settings
