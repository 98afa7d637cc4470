"""Measure the resident memory in MB of the idle proxy, controller and CSI driver, with filled caches.

scripts/bench idle-memory [--tree FOLDER]    FOLDER: another checkout, whose programs run with this one's packages
The programs start as in the image, with the environment of its Dockerfile. This needs root: the ServiceAccount's files
and the state of the proxy are mounted where a pod has them, in a mount namespace.
"""

import argparse
import os
import shlex
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.checkout import ROOT, image_environment
from lab.control_plane import ControlPlane
from lab.ports import Port
from lab.process import Process
from lab.programs import control_plane_programs
from lab.scratch import scratch_folder

MB: Final = 1_000_000
START_TIMEOUT: Final = 120.0
"""Seconds that a program may take to be ready."""
SETTLE_SECONDS: Final = 15.0
"""Seconds after which a program has returned the memory that it needed only to start."""
SYSTEM_NAMESPACE: Final = "connectors-system"
_POD_SCRIPT: Final = """
mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io
mount --bind {account} /run/secrets/kubernetes.io
mount -t tmpfs none /var/lib
mkdir /var/lib/kubernetes-connector
exec {command}
"""


def is_release_0_1_0(tree: Path) -> bool:
    """Return True for release 0.1.0: its proxy ignores arguments for its ports, and its driver has other options."""
    return (tree / "image" / "mitmproxy.yaml").exists()


def program_commands(tree: Path, folder: Path, ports: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the command of each program, to run in the folder `tree`. Its admin address serves /metrics."""
    entry = [sys.executable, "image/entry.py"]
    address = f"127.0.0.1:{ports['proxy']}"
    csi_address = [f"--admin=127.0.0.1:{ports['csi']}"]
    if is_release_0_1_0(tree):
        csi_address = ["--admin-host=127.0.0.1", f"--admin-port={ports['csi']}"]
    return {
        "proxy": [
            *(*entry, "proxy", "-q", "--set", f"connector_admin={address}", "--set", f"listen_port={ports['listen']}"),
        ],
        "controller": [*entry, "controller", "--admin", f"127.0.0.1:{ports['controller']}"],
        "csi": [
            *(*entry, "csi", "--node-name=node", *csi_address, f"--kubelet-root={folder}/kubelet"),
        ],
    }


def measure_programs(tree: Path) -> dict[str, float]:
    """Return the MB of each program of a checkout."""
    reserved_ports = {name: Port() for name in ("proxy", "controller", "csi", "listen")}
    ports = {name: port.number for name, port in reserved_ports.items()}
    if is_release_0_1_0(tree):
        ports |= {"proxy": 9091, "listen": 8080}
    with scratch_folder() as folder, ControlPlane(folder / "plane", programs=control_plane_programs()) as plane:
        for part in ("plugins/connectors-csi", "plugins_registry", "pods"):
            (folder / "kubelet" / part).mkdir(parents=True)
        plane.kubectl("apply", "-k", str(tree / "deploy"))
        plane.kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
        megabytes = {}
        for program, command in program_commands(tree, folder, ports).items():
            account = _write_account(folder / program, plane, program)
            megabytes[program] = _measure_program(
                command, account, plane, tree, folder / f"{program}.log", ports[program]
            )
        return megabytes


def _write_account(folder: Path, plane: ControlPlane, program: str) -> Path:
    files = folder / "serviceaccount"
    files.mkdir(parents=True)
    namespace, name = ("connectors-csi" if program == "csi" else SYSTEM_NAMESPACE), f"connectors-{program}"
    (files / "token").write_text(plane.issue_token(namespace, name, lifetime=3600))
    (files / "ca.crt").write_text(plane.ca_pem)
    (files / "namespace").write_text(namespace)
    return folder


def _measure_program(
    command: Sequence[str], account: Path, plane: ControlPlane, tree: Path, log: Path, port: int
) -> float:
    host, _, api_port = plane.url.removeprefix("https://").rpartition(":")
    script = _POD_SCRIPT.format(account=account, command=shlex.join(command))
    environment = image_environment((tree / "Dockerfile").read_text(), tree) | {
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": api_port,
        "CONNECTORS_SYSTEM_NAMESPACE": SYSTEM_NAMESPACE,
        "PYTHONPATH": str(tree),
    }
    wrapped = ["unshare", "--mount", "sh", "-euc", f"cd {shlex.quote(str(tree))}\n{script}"]
    process = Process(wrapped, log=log, environment=environment)
    process.start()
    try:
        process.wait_until(lambda: _is_ready(port), timeout=START_TIMEOUT)
        time.sleep(SETTLE_SECONDS)
        return process.resident_kb * 1024 / MB
    finally:
        process.stop()


def _is_ready(port: int) -> bool:
    """Return True if the caches are filled.

    Readiness is not enough: the driver has no such check, and a controller that waits for the Lease is ready.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
            text = response.read().decode()
    except OSError:
        return False
    return "connector_store_synced 1" in text or "connector_controller_leading 1" in text


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench idle-memory", description=__doc__)
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="FOLDER", help="another checkout to measure")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        parser.error("needs root, for a mount namespace")
    for program, megabytes in measure_programs(options.tree.resolve()).items():
        sys.stdout.write(f"{program:12} {megabytes:6.1f} MB\n")
    return 0
