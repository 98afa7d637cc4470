"""Measure what the setting `namespaces` costs: one proxy beside a real API server, for all namespaces and for some.

    python -m bench.namespaced [--namespaces 1 50 200] [--json FILE]

Each case has its own control plane with 200 namespaces of 5 Connectors and Secrets each. The memory of the API server
is what heap and stacks use after a garbage collection: with the proxy, less without it.
"""

import asyncio
import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.checkout import ROOT, THIS_CHECKOUT
from bench.output import make_parser, write_json
from bench.process import MeasuredProcess, free_port
from bench.store_scale import TOKEN, create_objects
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.kube.resources import CONNECTORS, SECRETS, Resource
from lab.control_plane import ControlPlane
from lab.manifests import connector
from lab.scratch import scratch_folder
from lab.waiting import wait_until

NAMESPACES: Final = 200
CONNECTORS_OF_A_NAMESPACE: Final = 5
READY_TIMEOUT: Final = 180.0
SETTLE_SECONDS: Final = 10.0
"""Seconds after the proxy is ready, in which its last connections open."""


def namespace_of(number: int) -> str:
    return f"team-{number % NAMESPACES}"


def make_objects() -> Iterator[tuple[Resource, dict[str, Any]]]:
    for number in range(NAMESPACES * CONNECTORS_OF_A_NAMESPACE):
        key = ObjectKey(namespace_of(number), f"cluster-{number}")
        metadata = {"name": key.name, "namespace": key.namespace}
        yield SECRETS, {"metadata": metadata, "type": BEARER_TOKEN_SECRET, "stringData": {"token": f"{TOKEN}{number}"}}
        yield CONNECTORS, connector(key.name, f"https://192.0.2.{number % 250}:6443", namespace=key.namespace)


def memory_in_use(plane: ControlPlane) -> int:
    """Return the bytes that the API server's heap and stacks use after a garbage collection."""
    for _ in range(2):
        plane.api.request("GET", "/debug/pprof/heap?gc=1", timeout=60)
    text = plane.api.request("GET", "/metrics", timeout=60).body.decode()
    names = ("go_memstats_heap_alloc_bytes", "go_memstats_stack_inuse_bytes")
    return sum(int(float(match[1])) for name in names if (match := re.search(rf"^{name} (\S+)$", text, re.MULTILINE)))


def count_connections(pid: int, port: int) -> int:
    """Return the number of the process's established TCP connections to a port of loopback."""
    sockets = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(file.readlink()))
        except OSError:
            continue
    rows = (row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:])
    peer, established = f"{port:04X}", "01"
    return sum(
        row[2].endswith(f":{peer}") and row[3] == established and f"socket:[{row[9]}]" in sockets for row in rows
    )


def is_ready(admin: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{admin}/readyz", timeout=10) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def measure(folder: Path, namespaces: int | None) -> dict[str, Any]:
    """Return the figures of one proxy for the first `namespaces`, or for all without the setting (None)."""
    with ControlPlane(folder) as plane:
        plane.kubectl("apply", "-k", str(ROOT / "deploy" / "crds"))
        plane.kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
        plane.kubectl("apply", "-f", str(ROOT / "deploy" / "system" / "namespace.yaml"))
        for number in range(NAMESPACES):
            plane.create_namespace(namespace_of(number))
        asyncio.run(create_objects(str(plane.kubeconfig), make_objects()))
        time.sleep(SETTLE_SECONDS)
        before, resident_before = memory_in_use(plane), plane.apiserver.resident_kb
        admin = f"127.0.0.1:{free_port()}"
        settings = {"confdir": str(folder / "conf"), "connector_source": "kubernetes", "connector_admin": admin}
        if namespaces is not None:
            settings["connector_namespaces"] = ",".join(map(namespace_of, range(namespaces)))
        arguments = ["-q", "--listen-host", "127.0.0.1", "-p", str(free_port())]
        arguments += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        environment = {**THIS_CHECKOUT.environment, "KUBECONFIG": str(plane.kubeconfig)}
        proxy = MeasuredProcess(THIS_CHECKOUT.proxy_command(arguments), folder / "proxy.log", env=environment)
        try:
            wait_until(lambda: is_ready(admin), "the proxy to be ready", timeout=READY_TIMEOUT)
            time.sleep(SETTLE_SECONDS)
            port = int(plane.url.rpartition(":")[2])
            return {
                "namespaces": namespaces or "all",
                "connections": count_connections(proxy.popen.pid, port),
                "proxy resident, MB": round(proxy.usage().rss / 1e6),
                "API server in use, MB": round((memory_in_use(plane) - before) / 1e6, 1),
                "API server resident, MB": round((plane.apiserver.resident_kb - resident_before) / 1e3),
            }
        finally:
            proxy.stop()


def main(arguments: Sequence[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--namespaces", type=int, nargs="+", default=[1, 50, 200])
    options = parser.parse_args(arguments)
    figures = []
    for namespaces in (None, *options.namespaces):
        with scratch_folder() as folder:
            figures.append(measure(folder, namespaces))
            sys.stdout.write(json.dumps(figures[-1]) + "\n")
    write_json(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
