"""Kubernetes Connector as users run it: the program of the image, a folder of manifests, a token of connectorctl."""

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
HANDSHAKE_TIMEOUT = 20.0


def start_proxy(
    testbed: Testbed, *, name: str = "ours", flows: str = "off", options: Mapping[str, str] | None = None,
    scripts: tuple[Path, ...] = (), env: Mapping[str, str] | None = None,
    checkout: Checkout = THIS_CHECKOUT, with_mitmdump: bool = False,
) -> Endpoint:  # fmt: skip
    """Start the proxy of `checkout`, and wait until it is ready.

    `scripts` are mitmproxy scripts of the benchmark. With `with_mitmdump`, or if `flows` is not "off", the program is
    mitmdump, as for a person who looks at requests.
    """
    folder, port, admin = testbed.make_folder(name), free_port(), f"127.0.0.1:{free_port()}"
    source = folder / "connectors"
    for target, address in (("target", testbed.target), ("blackhole", testbed.blackhole), ("faulty", testbed.faulty)):
        write_manifests(source, *_manifests(testbed, target, address), file=f"{target}.yaml")
    shutil.copy(testbed.proxy_ca.cert_and_key, folder / "mitmproxy-ca.pem")
    settings = {
        "confdir": str(folder), "connector_source": str(source), "connector_admin": admin, "connector_flows": flows,
        "connector_max_connections": "10000", **(options or {}),
    }  # fmt: skip
    args = ["-q", "--listen-host", "127.0.0.1", "-p", str(port)]
    for option, value in settings.items():
        args += ["--set", f"{option}={value}"]
    command = checkout.proxy_command(args, scripts=scripts, with_mitmdump=with_mitmdump or flows != "off")
    process = MeasuredProcess(command, folder / "log", env={**checkout.environment, **(env or {})})
    process.wait_for_port(port)
    _wait_until_ready(process, admin)
    endpoint = Endpoint(
        name=name, process=process, proxy=f"127.0.0.1:{port}", target=testbed.target,
        ca=testbed.proxy_ca.cert, admin=admin,
    )  # fmt: skip
    return for_connector(endpoint, testbed, "target", checkout)


def for_connector(endpoint: Endpoint, testbed: Testbed, connector: str, checkout: Checkout = THIS_CHECKOUT) -> Endpoint:
    """Return the endpoint of the same proxy for another Connector: target, blackhole or faulty."""
    folder = endpoint.process.log.parent
    command: list[str | Path] = [checkout.programs / "connectorctl", "token", f"bench/{connector}"]
    command += ["--source", folder / "connectors", "--confdir", folder]
    token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    target = {"target": testbed.target, "blackhole": testbed.blackhole, "faulty": testbed.faulty}[connector]
    # Direct access by path: TLS at the port with the proxy's own certificate, and the Connector in the path.
    direct: Endpoint | None = replace(
        endpoint, proxy="", target=endpoint.proxy, bearer=token, prefix=f"/connectors/bench/{connector}", direct=None
    )
    if checkout is not THIS_CHECKOUT and not accepts_tls(endpoint):
        direct = None
    return replace(endpoint, target=target, auth=f"bench/{connector}:{token}", direct=direct)


def accepts_tls(endpoint: Endpoint) -> bool:
    """Return True if the port of the proxy accepts TLS. Release 0.1.0 supports only CONNECT."""
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


def _manifests(testbed: Testbed, name: str, address: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        secret(name, namespace="bench", token=testbed.token, ca=testbed.target_ca.cert.read_text()),
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
