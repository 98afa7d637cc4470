"""Listening sockets, in network namespaces with IPv4, IPv6 or both."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from connector_store.listening import listen

ROOT = Path(__file__).parents[2]
PROGRAM = """
import socket
from connector_store.listening import ANY_ADDRESS, listen

def reached(host):
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True

with listen(ANY_ADDRESS, 0) as server:
    port = server.getsockname()[1]
    print(reached("127.0.0.1"), reached("::1"))
"""
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")


@pytest.mark.slow
@NEEDS_ROOT
@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        pytest.param("true", "True True", id="both families"),
        pytest.param("ip -4 address flush dev lo", "False True", id="IPv6 alone"),
        pytest.param("ip -6 address flush dev lo", "True False", id="IPv4 alone"),
    ],
)
def test_all_addresses_include_each_family_of_the_kernel(setting: str, expected: str) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None
    script = f'ip link set lo up; {setting}; exec "$0" -c "$1"'
    process = subprocess.run(
        [unshare, "--net", "sh", "-euc", script, sys.executable, PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (process.stdout.strip(), process.returncode) == (expected, 0), process.stderr


def test_a_kernel_without_ipv6_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen("::", 0) as server:
        assert server.family == socket.AF_INET
        socket.create_connection(("127.0.0.1", server.getsockname()[1]), 5).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_one_address_is_that_address(host: str) -> None:
    with listen(host, 0) as server:
        assert server.getsockname()[0] in ("127.0.0.1", "::1")
        with pytest.raises(OSError, match="in use"):
            listen(host, server.getsockname()[1])
