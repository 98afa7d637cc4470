"""Start of the process."""

import pytest

from connectorctl.invocation import Invocation


@pytest.mark.parametrize(("plugin", "in_pod"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_plugin_and_a_pod_prefer_the_cluster(plugin: bool, in_pod: bool) -> None:
    assert Invocation(is_plugin=plugin, in_pod=in_pod).prefers_cluster == (plugin or in_pod)
