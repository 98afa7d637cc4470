"""Process settings of a service."""

import gc
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy.addonmanager import AddonManager
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt
from mitmproxy.hooks import Hook
from mitmproxy.proxy.server_hooks import ClientConnectedHook

from addons.server.process import YOUNG_THRESHOLD, FrozenHeap
from tests.fakes.proxy import running_proxy
from tests.fakes.waiting import until

SCRIPT = """
import os, resource, ctypes
from addons.server.process import harden
harden()
print(os.environ.get("SSLKEYLOGFILE"), resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


class RecordingAddon:
    """Addon that records connected clients. `name` is its name in mitmproxy."""

    def __init__(self, name: str, *, halts: bool = False) -> None:
        self.name = name
        self.halts = halts
        self.client_ids: list[str] = []

    def client_connected(self, client: Client) -> None:
        self.client_ids.append(client.id)
        if self.halts:
            raise AddonHalt


class NestingAddon:
    """Addon that contains other addons."""

    def __init__(self, *inner: object) -> None:
        self.addons = list(inner)


def make_client() -> Client:
    return Client(peername=("192.0.2.1", 1), sockname=("192.0.2.2", 2))


async def test_with_the_index_only_addons_with_the_hook_are_called(
    folder: Path, confdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called_addons: list[str] = []
    invoke = AddonManager.invoke_addon

    def record_call(self: AddonManager, addon: object, event: Hook) -> Coroutine[Any, Any, None]:
        called_addons.append(type(addon).__name__)
        return invoke(self, addon, event)

    async with running_proxy(folder, confdir, connector_flows="off") as proxy:
        proxy.master.addons.add(RecordingAddon("told"), NestingAddon())
        monkeypatch.setattr(AddonManager, "invoke_addon", record_call)
        (await proxy.open()).close()
        await until(lambda: len(called_addons) == 1 and proxy.connection_count == 0)
        assert called_addons == ["RecordingAddon"]


async def test_an_addon_that_is_added_later_is_called_until_it_is_removed(folder: Path, confdir: Path) -> None:
    async with running_proxy(folder, confdir, connector_flows="off") as proxy:
        addons, client = proxy.master.addons, make_client()
        await addons.trigger_event(ClientConnectedHook(client))
        inner, last = RecordingAddon("inner"), RecordingAddon("last")
        nesting = NestingAddon(inner)
        addons.add(nesting, last)
        await addons.trigger_event(ClientConnectedHook(client))
        assert (inner.client_ids, last.client_ids) == ([client.id], [client.id])
        addons.remove(last)
        await addons.trigger_event(ClientConnectedHook(client))
        assert (len(inner.client_ids), len(last.client_ids)) == (2, 1)


async def test_a_halt_stops_later_addons_and_an_error_does_not(
    folder: Path, confdir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def client_connected(self, client: Client) -> None:
            raise RuntimeError("no")

    async with running_proxy(folder, confdir, connector_flows="off") as proxy:
        halts, behind = RecordingAddon("halts", halts=True), RecordingAddon("behind")
        proxy.master.addons.add(Broken(), halts, behind)
        await proxy.master.addons.trigger_event(ClientConnectedHook(make_client()))
        assert (len(halts.client_ids), len(behind.client_ids)) == (1, 0)
    assert "Addon error: no" in caplog.text


async def test_without_the_index_all_addons_are_called(folder: Path, confdir: Path) -> None:
    async with running_proxy(folder, confdir, connector_flows="on") as proxy:
        assert "trigger_event" not in vars(proxy.master.addons)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_harden_disables_core_dumps_and_key_logs() -> None:
    environment = {"SSLKEYLOGFILE": "/dev/null", "PYTHONPATH": os.environ["PYTHONPATH"]}
    result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "None (0, 0) 0\n"


@pytest.fixture
def unfrozen() -> Iterator[None]:
    """Unfreeze the heap, as at the start of a process, because pytest has frozen it."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("unfrozen")
def test_objects_from_the_start_are_frozen_while_the_proxy_runs() -> None:
    before, heap = gc.get_threshold(), FrozenHeap()
    heap.running()
    assert (gc.get_freeze_count() > 10_000, gc.get_threshold()[0]) == (True, YOUNG_THRESHOLD)
    heap.done()
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)
