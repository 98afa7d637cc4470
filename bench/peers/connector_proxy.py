"""Kubernetes Connector as it is operated: the image's program, a folder of manifests, a token from connectorctl."""

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
from typing import Any

from bench.checkout import THIS_CHECKOUT, Checkout
from bench.peers.endpoint import Endpoint
from bench.process import MeasuredProcess, free_port
from bench.testbed import Testbed
from lab.manifests import connector, secret, write_manifests

SYNC_TIMEOUT = 300.0
CONNECTORS_PER_FILE = 100
HANDSHAKE_TIMEOUT = 20.0


def start_proxy(
    place: Testbed, *, name: str = "ours", flows: str = "off", options: Mapping[str, str] | None = None,
    scripts: tuple[Path, ...] = (), env: Mapping[str, str] | None = None, extra_connectors: int = 0,
    product: Checkout = THIS_CHECKOUT, with_mitmdump: bool = False,
) -> Endpoint:  # fmt: skip
    """scripts: further mitmproxy scripts of the benchmark that look inside the process; beside: more Connectors.

    product: the checkout that is run; people: by mitmdump, as by who looks at requests; so it is where flows are made.
    """
    folder, port, admin = place.make_folder(name), free_port(), f"127.0.0.1:{free_port()}"
    source = folder / "connectors"
    for of, address in (("target", place.target), ("blackhole", place.blackhole), ("faulty", place.faulty)):
        write_manifests(source, *_manifests(place, of, address), file=f"{of}.yaml")
    for start in range(0, extra_connectors, CONNECTORS_PER_FILE):
        numbers = range(start, min(extra_connectors, start + CONNECTORS_PER_FILE))
        manifests = [manifest for number in numbers for manifest in _manifests(place, f"more-{number}", place.target)]
        write_manifests(source, *manifests, file=f"more-{start}.yaml")
    shutil.copy(place.proxy_ca.cert_and_key, folder / "mitmproxy-ca.pem")
    settings = {
        "confdir": str(folder), "connector_source": str(source), "connector_admin": admin, "connector_flows": flows,
        "connector_max_connections": "10000", **(options or {}),
    }  # fmt: skip
    args = ["-q", "--listen-host", "127.0.0.1", "-p", str(port)]
    for option, value in settings.items():
        args += ["--set", f"{option}={value}"]
    command = product.proxy_command(args, scripts=scripts, with_mitmdump=with_mitmdump or flows != "off")
    process = MeasuredProcess(command, folder / "log", env={**product.environment, **(env or {})})
    process.wait_for_port(port)
    _wait_until_ready(process, admin)
    endpoint = Endpoint(
        name=name, process=process, proxy=f"127.0.0.1:{port}", target=place.target,
        ca=place.proxy_ca.cert, admin=admin,
    )  # fmt: skip
    return for_connector(endpoint, place, "target", product)


def for_connector(endpoint: Endpoint, place: Testbed, connector: str, product: Checkout = THIS_CHECKOUT) -> Endpoint:
    """The same proxy, for another of its Connectors: target, blackhole or faulty."""
    folder = endpoint.process.log.parent
    command: list[str | Path] = [product.programs / "connectorctl", "token", f"bench/{connector}"]
    command += ["--source", folder / "connectors", "--confdir", folder]
    token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    target = {"target": place.target, "blackhole": place.blackhole, "faulty": place.faulty}[connector]
    # The path form: TLS at the port with the proxy's own certificate, the Connector in the path.
    direct: Endpoint | None = replace(
        endpoint, proxy="", target=endpoint.proxy, bearer=token, prefix=f"/connectors/bench/{connector}", direct=None
    )
    if product is not THIS_CHECKOUT and not accepts_tls(endpoint):
        direct = None
    return replace(endpoint, target=target, auth=f"bench/{connector}:{token}", direct=direct)


def accepts_tls(endpoint: Endpoint) -> bool:
    """True if there is TLS at the proxy's port: release 0.1.0 knows CONNECT only."""
    host, _, port = endpoint.proxy.rpartition(":")
    context = ssl.create_default_context(cafile=str(endpoint.ca))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with (
            socket.create_connection((host, int(port)), HANDSHAKE_TIMEOUT) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def _manifests(place: Testbed, name: str, address: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        secret(name, namespace="bench", token=place.token, ca=place.target_ca.cert.read_text()),
        connector(name, f"https://{address}", namespace="bench"),
    )


def _wait_until_ready(process: MeasuredProcess, admin: str) -> None:
    deadline = time.monotonic() + SYNC_TIMEOUT
    while process.popen.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{admin}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the proxy does not become ready: {process.log.read_text(errors='replace')[-2000:]}")
