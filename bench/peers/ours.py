"""Kubernetes Connector as it is operated: the image's program, a folder of manifests, a token from connectorctl."""

import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench.peers.endpoint import Endpoint
from bench.place import Place
from bench.process import Process, free_port
from bench.product import THIS, Product

SYNC_SECONDS = 300.0
PER_FILE = 100
SHAKE_SECONDS = 20.0


def ours(
    place: Place, *, name: str = "ours", flows: str = "off", options: Mapping[str, str] | None = None,
    scripts: tuple[Path, ...] = (), env: Mapping[str, str] | None = None, beside: int = 0,
    product: Product = THIS, people: bool = False,
) -> Endpoint:  # fmt: skip
    """scripts: further mitmproxy scripts of the benchmark that look inside the process; beside: more Connectors.

    product: the checkout that is run; people: by mitmdump, as by who looks at requests; so it is where flows are made.
    """
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
    args = ["-q", "--listen-host", "127.0.0.1", "-p", str(port)]
    for option, value in settings.items():
        args += ["--set", f"{option}={value}"]
    command = product.proxy(args, scripts=scripts, people=people or flows != "off")
    process = Process(command, room / "log", env={**product.environment, **(env or {})})
    process.wait_for_port(port)
    _wait_until_ready(process, admin)
    endpoint = Endpoint(
        name=name, process=process, proxy=f"127.0.0.1:{port}", target=place.target,
        ca=place.proxy_ca.cert, admin=admin,
    )  # fmt: skip
    return aimed(endpoint, place, "target", product)


def aimed(endpoint: Endpoint, place: Place, connector: str, product: Product = THIS) -> Endpoint:
    """The same proxy, for another of its Connectors: target, blackhole or faulty."""
    room = endpoint.process.log.parent
    command: list[str | Path] = [product.programs / "connectorctl", "token", f"bench/{connector}"]
    command += ["--source", room / "connectors", "--confdir", room]
    token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    target = {"target": place.target, "blackhole": place.blackhole, "faulty": place.faulty}[connector]
    # The path form: TLS at the port with the proxy's own certificate, the Connector in the path.
    direct: Endpoint | None = replace(
        endpoint, proxy="", target=endpoint.proxy, bearer=token, prefix=f"/connectors/bench/{connector}", direct=None
    )
    if product is not THIS and not shakes_hands(endpoint):
        direct = None
    return replace(endpoint, target=target, auth=f"bench/{connector}:{token}", direct=direct)


def shakes_hands(endpoint: Endpoint) -> bool:
    """True if there is TLS at the proxy's port: release 0.1.0 knows CONNECT only."""
    host, _, port = endpoint.proxy.rpartition(":")
    context = ssl.create_default_context(cafile=str(endpoint.ca))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with (
            socket.create_connection((host, int(port)), SHAKE_SECONDS) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            return True
    except OSError:
        return False


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
