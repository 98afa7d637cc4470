"""load, configure, running and done: a proxy that cannot do its work stops, and says why."""

import logging
import os
import sys
from pathlib import Path

import pytest
from mitmproxy import exceptions
from mitmproxy.addons.termlog import TermLogHandler

from addons.server.connections import Connections
from addons.server.lifecycle import Lifecycle, set_handler_format
from connector_store.domain.config.settings import LogFormat
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until
from tests.fakes.writes import RecordingStream


async def test_connector_options_cannot_change_while_the_proxy_runs(proxy: Proxy) -> None:
    with pytest.raises(exceptions.OptionsError, match="restart the proxy"):
        proxy.master.options.update(connector_recheck="5")
    with pytest.raises(exceptions.OptionsError, match="proxy_debug"):
        proxy.master.options.update(proxy_debug=True)
    assert proxy.master.options.proxy_debug is False


async def test_a_task_that_fails_stops_the_proxy(
    proxy: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(sys, "exit", codes.append)

    async def fail() -> None:
        raise OSError("address in use")

    lifecycle = proxy.master.addons.get("lifecycle")
    await until(lambda: lifecycle.not_ready_reason() is None)
    lifecycle._start_task("admin", fail())
    await until(lambda: codes == [1])
    assert lifecycle.not_ready_reason() == "the proxy is about to end", "it does not say that it serves"
    assert "admin ended: OSError: address in use" in caplog.text


async def test_the_proxy_is_not_ready_as_soon_as_it_drains(proxy: Proxy, target: FakeTarget) -> None:
    async def silent(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.read_some()

    target.handler = silent
    lifecycle = proxy.master.addons.get("lifecycle")
    await until(lambda: lifecycle.not_ready_reason() is None)
    client = await proxy.tunnel_to(target)
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    await until(lambda: bool(target.received))
    lifecycle._on_sigterm()
    await until(lambda: not proxy.master.addons.get("proxyserver").listen_addrs())
    assert lifecycle.not_ready_reason() == "the proxy is about to end"
    client.close()
    await until(proxy.master.should_exit.is_set)


async def test_recent_use_is_counted_without_a_reader(folder: Path, confdir: Path, target: FakeTarget) -> None:
    async with running_proxy(folder, confdir, connector_sessions="127.0.0.1:0") as proxy:
        recent_use = proxy.master.addons.get("lifecycle")._records.recent_use
        await proxy.tunnel_to(target)
        await until(lambda: len(recent_use._counts) == 1)


def test_before_it_is_configured_the_proxy_is_not_ready() -> None:
    lifecycle = Lifecycle(Connections())
    assert lifecycle.not_ready_reason() == "the proxy is not configured"
    lifecycle.done()


async def test_no_key_log_is_written(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", "/tmp/keys")

    class FakeLoader:
        def add_option(self, *_: object) -> None:
            pass

    Lifecycle(Connections()).load(FakeLoader())  # type: ignore[arg-type]  # only `add_option` is called on it
    assert "SSLKEYLOGFILE" not in os.environ


@pytest.mark.parametrize("forms", [["json"], ["text"], ["json", "text"]], ids=" then ".join)
def test_audit_lines_and_log_lines_are_not_interleaved(forms: list[LogFormat]) -> None:
    """Both go to stdout, by two threads."""
    out = RecordingStream()
    handler = TermLogHandler(out)
    for form in forms:
        set_handler_format(form, handler)
    handler.handle(logging.LogRecord("a", logging.INFO, "a.py", 1, "said", None, None))
    [line] = out.pieces
    assert "said" in line
    assert line.endswith("\n")
