"""The proxy with the image's configuration and the CSI driver, in networks with IPv4, IPv6 or both."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from image.entry import HOME, command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root"),
]

REACHED = """
import socket, subprocess, sys, time

*command, ports, hosts = sys.argv[1:]
process = subprocess.Popen(command, stdout=sys.stderr)
try:
    for host in hosts.split():
        for port in ports.split():
            deadline = time.monotonic() + 180
            while True:
                try:
                    socket.create_connection((host, int(port)), 5).close()
                    print(host, port)
                    break
                except OSError:
                    assert process.poll() is None, "it has ended"
                    assert time.monotonic() < deadline, (host, port)
                    time.sleep(0.1)
finally:
    process.kill()
    process.wait()
"""
NETWORKS = [
    pytest.param("true", ["127.0.0.1", "::1"], id="both families"),
    pytest.param("ip -4 address flush dev lo", ["::1"], id="IPv6 alone"),
    pytest.param("ip -6 address flush dev lo", ["127.0.0.1"], id="IPv4 alone"),
]


def reached(network: str, command: list[str], ports: list[int], hosts: list[str]) -> list[str]:
    """Return the addresses that accept connections, each as HOST PORT, in a new network namespace."""
    unshare = shutil.which("unshare")
    assert unshare is not None
    script = f'ip link set lo up; {network}; exec "$0" -c "$@"'
    arguments = [REACHED, *command, " ".join(map(str, ports)), " ".join(hosts)]
    done = subprocess.run(
        [unshare, "--net", "sh", "-euc", script, sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=HOME,
        env=os.environ | {"PYTHONPATH": str(HOME)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def short() -> Iterator[Path]:
    """Folder for sockets, whose paths have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="csi-") as folder:
        yield Path(folder)


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    """Kubeconfig of an API server that does not exist. The program waits for it."""
    path = tmp_path / "kubeconfig"
    path.write_text(
        "{apiVersion: v1, kind: Config, clusters: [{name: x, cluster: {server: 'http://127.0.0.1:1'}}], "
        "contexts: [{name: x, context: {cluster: x, user: x}}], users: [{name: x, user: {}}], current-context: x}"
    )
    return path


def proxy(confdir: Path, *arguments: str) -> list[str]:
    """Return the command that the image's entry point runs."""
    found = command(["proxy", "--set", f"confdir={confdir}", *arguments], programs=Path(sys.executable).parent)
    assert found is not None
    return found


@pytest.mark.parametrize(("network", "hosts"), NETWORKS)
def test_the_proxy_is_reached_at_both_its_ports(
    tmp_path: Path, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, network: str, hosts: list[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    ports = [8080, 9091]
    assert reached(network, proxy(tmp_path), ports, hosts) == [f"{host} {port}" for host in hosts for port in ports]


def test_on_a_folder_the_proxy_is_reached_at_its_listen_address(tmp_path: Path) -> None:
    """A container as in docs/outside.md. Without its option, the proxy listens on the container's own 127.0.0.1."""
    (tmp_path / "connectors").mkdir()
    door = proxy(tmp_path, "--listen-host", "127.0.0.2", "--set", f"connector_source={tmp_path / 'connectors'}")
    assert reached("true", door, [8080], ["127.0.0.2"]) == ["127.0.0.2 8080"]


@pytest.mark.parametrize(("network", "hosts"), NETWORKS)
def test_the_driver_is_reached_by_its_probes(short: Path, kubeconfig: Path, network: str, hosts: list[str]) -> None:
    line = [sys.executable, "-m", "connector_csi", "--node-name=n", f"--kubelet-root={short}"]
    line += ["--admin", "[::]:9091", f"--kubeconfig={kubeconfig}"]
    assert reached(network, line, [9091], hosts) == [f"{host} 9091" for host in hosts]
