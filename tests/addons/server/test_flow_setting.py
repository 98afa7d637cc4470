"""Flows are made where somebody looks at them."""

import pytest
from mitmproxy.addons.save import Save
from mitmproxy.addons.script import ScriptLoader
from mitmproxy.test import taddons

from addons.server.flow_setting import shows_flows


@pytest.mark.parametrize(("wanted", "expected"), [("on", True), ("off", False), ("auto", False)])
def test_on_and_off_are_followed_and_auto_shows_no_flows_by_default(wanted: str, expected: bool) -> None:
    with taddons.context(Save(), ScriptLoader()):
        assert shows_flows(wanted) is expected


def test_saving_flows_shows_flows(caplog: pytest.LogCaptureFixture) -> None:
    with taddons.context(Save(), ScriptLoader()) as context, caplog.at_level("INFO"):
        context.options.save_stream_file = "/dev/null"
        result = shows_flows("auto")
        context.options.save_stream_file = None
    assert result
    assert "requests are shown as flows of mitmproxy: save_stream_file is set" in caplog.text
