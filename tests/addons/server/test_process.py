"""What a service needs of the process, of the garbage collector and of mitmproxy."""

import gc
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mitmproxy.addons import default_addons

from addons.server.process import IDLE, YOUNG, Heap, trim
from tests.fakes.proxy import Proxy, running_proxy

SCRIPT = """
import os, resource, ctypes
from addons.server.process import harden
harden()
print(os.environ.get("SSLKEYLOGFILE"), resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
LOGGER = logging.getLogger("mitmproxy.proxy.server")
NEEDED = ("block", "core", "proxyserver", "scriptloader", "tlsconfig", "nextlayer", "lifecycle", "connections")
OF_CONNECTIONS = (
    "client_connected",
    "client_disconnected",
    "server_connect",
    "server_connected",
    "server_disconnected",
)


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    LOGGER.setLevel(logging.NOTSET)
    yield
    LOGGER.setLevel(logging.NOTSET)


def test_whoever_is_taken_out_is_mitmproxys_and_looks_at_no_connection() -> None:
    found = {type(each).__name__.lower(): each for each in default_addons()}
    assert set(IDLE) - {"dumper"} <= set(found)
    assert not any(hasattr(found[name], hook) for name in IDLE if name in found for hook in OF_CONNECTIONS)


async def test_unwatched_the_idle_ones_are_gone_and_the_others_stay(folder: Path, confdir: Path) -> None:
    async with running_proxy(folder, confdir, connector_flows="off") as proxy:
        assert not any(name in IDLE for name in proxy.master.addons.lookup)
        assert all(proxy.master.addons.get(name) is not None for name in NEEDED)
        assert LOGGER.level == logging.WARNING


async def test_watched_all_are_there(folder: Path, confdir: Path) -> None:
    async with running_proxy(folder, confdir, connector_flows="on") as proxy:
        assert proxy.master.addons.get("modifyheaders") is not None
        assert LOGGER.level == logging.NOTSET


async def test_who_asks_for_every_line_gets_those_of_connections(proxy: Proxy) -> None:
    LOGGER.setLevel(logging.NOTSET)
    proxy.master.options.add_option("termlog_verbosity", str, "debug", "")
    trim(proxy.master)
    assert LOGGER.level == logging.NOTSET


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_leaves_no_core_and_no_keys() -> None:
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={"SSLKEYLOGFILE": "/dev/null"}, capture_output=True, text=True, check=True
    )
    assert said.stdout == "None (0, 0) 0\n"


def test_what_was_made_at_the_start_is_not_collected_while_it_runs() -> None:
    before, heap = gc.get_threshold(), Heap()
    heap.running()
    assert (gc.get_freeze_count() > 10_000, gc.get_threshold()[0]) == (True, YOUNG)
    heap.done()
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)
