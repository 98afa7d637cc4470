"""Flows are made where somebody looks at them."""

import pytest
from mitmproxy.addons.save import Save
from mitmproxy.addons.script import ScriptLoader
from mitmproxy.test import taddons

from addons import watching


@pytest.mark.parametrize(("wanted", "watched"), [("on", True), ("off", False), ("auto", False)])
def test_what_is_wanted_is_done_and_nobody_watches_by_default(wanted: str, watched: bool) -> None:
    with taddons.context(Save(), ScriptLoader()):
        assert watching.decide(wanted) is watched


def test_who_saves_flows_watches(caplog: pytest.LogCaptureFixture) -> None:
    with taddons.context(Save(), ScriptLoader()) as context, caplog.at_level("INFO"):
        context.options.save_stream_file = "/dev/null"
        watched = watching.decide("auto")
        context.options.save_stream_file = None
    assert watched
    assert "flows of inner requests: on (save_stream_file is set)" in caplog.text
