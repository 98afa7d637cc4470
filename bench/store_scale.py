"""Measure the store with 10,000 Connectors and Secrets of a real API server: time to sync, memory, lookups, changes.

    python -m bench.store_scale [--connectors 10000] [--json FILE]

A separate process reads the objects as the proxy does when it starts, so its memory is that of the store alone.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from bench.checkout import ROOT
from bench.output import make_parser, write_figures
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.objects.models import Target
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.cluster_watches import ClusterWatches
from connector_store.kube.resources import CONNECTORS, SECRETS, Resource
from connector_store.store import Store
from lab.control_plane import ControlPlane
from lab.scratch import scratch_folder

NAMESPACES: Final = 20
WRITERS: Final = 16
LOOKUPS: Final = 200_000
CHANGES: Final = 20
TOKEN: Final = "eyJhbGciOiJSUzI1NiJ9." + "x" * 900
"""A token as long as that of a ServiceAccount."""


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--connectors", type=int, default=10_000)
    parser.add_argument("--read", metavar="KUBECONFIG", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(asyncio.run(measure_reader(options.read, options.connectors))))  # noqa: T201 - the figures are the output
        return 0
    figures = measure(options.connectors)
    write_figures(figures, options.json)
    return 0


def measure(connectors: int) -> dict[str, Any]:
    with scratch_folder() as folder, ControlPlane(folder) as plane:
        plane.kubectl("apply", "-k", str(ROOT / "deploy" / "crds"))
        for number in range(NAMESPACES):
            plane.create_namespace(f"team-{number}")
        asyncio.run(create_objects(str(plane.kubeconfig), make_objects(connectors)))
        command = [sys.executable, "-m", "bench.store_scale", "--connectors", str(connectors), "--read"]
        result = subprocess.run([*command, str(plane.kubeconfig)], check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


async def create_objects(kubeconfig: str, work: Iterator[tuple[Resource, dict[str, Any]]]) -> None:
    """Wait until the API server serves the definitions, and create all objects."""
    async with KubeClient(await config_loader.load_configuration(kubeconfig=kubeconfig)) as client:
        while not (await client.get("/apis/connectors.alauda.io/v1alpha1"))["resources"]:  # noqa: ASYNC110 - the API server has no event for this
            await asyncio.sleep(0.1)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(WRITERS):
                tasks.create_task(write(client, work))


async def write(client: KubeClient, work: Iterator[tuple[Resource, dict[str, Any]]]) -> None:
    for kind, obj in work:
        await client.create(kind.path(obj["metadata"]["namespace"]), obj)


def make_objects(connectors: int) -> Iterator[tuple[Resource, dict[str, Any]]]:
    for number in range(connectors):
        key = connector_key(number)
        metadata = {"name": key.name, "namespace": key.namespace}
        yield SECRETS, {"metadata": metadata, "type": BEARER_TOKEN_SECRET, "stringData": {"token": f"{TOKEN}{number}"}}
        yield CONNECTORS, connector(number)


def connector(number: int, port: int = 6443) -> dict[str, Any]:
    key = connector_key(number)
    return {
        "apiVersion": f"{CONNECTORS.group}/{CONNECTORS.version}",
        "kind": "Connector",
        "metadata": {"name": key.name, "namespace": key.namespace, "annotations": {"cpaas.io/description": "scale"}},
        "spec": {
            "connectorClassName": "k8s",
            "address": f"https://10.0.{number // 256 % 256}.{number % 256}:{port}",
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": key.name}},
        },
    }


def connector_key(number: int) -> ObjectKey:
    return ObjectKey(f"team-{number % NAMESPACES}", f"cluster-{number}")


async def measure_reader(kubeconfig: str, connectors: int) -> dict[str, Any]:
    """Sync the store as the proxy does when it starts, and return the figures."""
    store = Store()
    started_at = time.perf_counter()
    async with KubeClient(await config_loader.load_configuration(kubeconfig=kubeconfig)) as client:
        source = ClusterWatches(client, store, system_namespace="connectors-system")
        task = asyncio.create_task(source.run())
        while not store.synced:  # noqa: ASYNC110 - it is what is measured
            await asyncio.sleep(0.01)
        synced_seconds = time.perf_counter() - started_at
        usable = sum(isinstance(store.get(connector_key(number)), Target) for number in range(connectors))
        lookup_seconds = measure_lookup(store, connectors)
        change_delays = await measure_changes(client, store)
        task.cancel()
    return {
        "connectors": connectors,
        "usable": usable,
        "synced_s": round(synced_seconds, 2),
        "resident_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "lookup_us": round(lookup_seconds * 1e6, 3),
        "change_visible_ms_median": round(statistics.median(change_delays) * 1e3, 1),
        "change_visible_ms_max": round(max(change_delays) * 1e3, 1),
    }


def measure_lookup(store: Store, connectors: int) -> float:
    """Return the seconds per lookup of an existing key."""
    keys = [connector_key(number % connectors) for number in range(LOOKUPS)]
    started_at = time.perf_counter()
    for key in keys:
        store.get(key)
    return (time.perf_counter() - started_at) / LOOKUPS


async def measure_changes(client: KubeClient, store: Store) -> Sequence[float]:
    """Return the seconds from the API server's response to a changed address until a lookup returns it."""
    delays = []
    for number in range(CHANGES):
        key = connector_key(number)
        patch = {"spec": connector(number, port=7000 + number)["spec"]}
        await client.patch(CONNECTORS.path(key.namespace, key.name), patch)
        started_at = time.perf_counter()
        while not (isinstance(target := store.get(key), Target) and target.address.port == 7000 + number):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        delays.append(time.perf_counter() - started_at)
    return delays


if __name__ == "__main__":
    sys.exit(main())
