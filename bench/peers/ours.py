"""Kubernetes Connector as a user runs it: a folder of manifests, mitmdump with the addon, a token from connectorctl."""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench.peers.endpoint import Endpoint
from bench.place import Place
from bench.process import Process, free_port

ROOT = Path(__file__).parent.parent.parent
SYNC_SECONDS = 300.0
PER_FILE = 100


def ours(
    place: Place, *, name: str = "ours", flows: str = "off", options: Mapping[str, str] | None = None,
    scripts: tuple[Path, ...] = (), env: Mapping[str, str] | None = None, beside: int = 0,
) -> Endpoint:  # fmt: skip
    """scripts: further mitmproxy scripts of the benchmark that look inside the process; beside: more Connectors."""
    room, port, admin = place.room(name), free_port(), f"127.0.0.1:{free_port()}"
    source = room / "connectors"
    source.mkdir()
    for connector, address in (("target", place.target), ("blackhole", place.blackhole), ("faulty", place.faulty)):
        (source / f"{connector}.yaml").write_text(_manifests(place, connector, address))
    for start in range(0, beside, PER_FILE):
        more = [
            _manifests(place, f"more-{number}", place.target) for number in range(start, min(beside, start + PER_FILE))
        ]
        (source / f"more-{start}.yaml").write_text("---\n".join(more))
    shutil.copy(place.proxy_ca.both, room / "mitmproxy-ca.pem")
    settings = {
        "confdir": str(room), "connector_source": str(source), "connector_admin": admin, "connector_flows": flows,
        "connector_max_connections": "10000", **(options or {}),
    }  # fmt: skip
    args: list[str | Path] = [Path(sys.executable).with_name("mitmdump"), "-q"]
    args += ["--listen-host", "127.0.0.1", "-p", str(port)]
    for script in (ROOT / "addons" / "connector.py", *scripts):
        args += ["-s", script]
    for option, value in settings.items():
        args += ["--set", f"{option}={value}"]
    process = Process(args, room / "log", env=env)
    process.wait_for_port(port)
    _wait_until_ready(process, admin)
    endpoint = Endpoint(
        name=name, process=process, proxy=f"127.0.0.1:{port}", target=place.target,
        ca=place.proxy_ca.cert, admin=admin,
    )  # fmt: skip
    return aimed(endpoint, place, "target")


def aimed(endpoint: Endpoint, place: Place, connector: str) -> Endpoint:
    """The same proxy, for another of its Connectors: target, blackhole or faulty."""
    room = endpoint.process.log.parent
    command: list[str | Path] = [Path(sys.executable).with_name("connectorctl"), "token", f"bench/{connector}"]
    command += ["--source", room / "connectors", "--confdir", room]
    token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    target = {"target": place.target, "blackhole": place.blackhole, "faulty": place.faulty}[connector]
    # The path form: TLS at the port with the proxy's own certificate, the Connector in the path.
    direct = replace(
        endpoint, proxy="", target=endpoint.proxy, bearer=token, prefix=f"/connectors/bench/{connector}", direct=None
    )
    return replace(endpoint, target=target, auth=f"bench/{connector}:{token}", direct=direct)


def _manifests(place: Place, name: str, address: str) -> str:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "bench"},
        "type": "connectors.cpaas.io/bearer-token",
        "stringData": {"token": place.token, "ca.crt": place.target_ca.cert.read_text()},
    }
    connector = {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "Connector",
        "metadata": {"name": name, "namespace": "bench"},
        "spec": {
            "connectorClassName": "k8s",
            "address": f"https://{address}",
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": name}},
        },
    }
    return "---\n".join(json.dumps(document, indent=2) + "\n" for document in (secret, connector))


def _wait_until_ready(process: Process, admin: str) -> None:
    deadline = time.monotonic() + SYNC_SECONDS
    while process.popen.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{admin}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the proxy does not become ready: {process.log.read_text(errors='replace')[-2000:]}")
