"""The rollout of the CSI driver on many nodes, by the real DaemonSet controller.

The test is the kubelets. It makes all waiting pods ready at once, with a time of transition that lies in the past. So
the controller waits for nothing, and the time of a rollout follows from the number of its waves. This number does not
depend on the number of nodes, because the strategy has a percentage. `scripts/test versions` runs the test with 1,000,
which needs a minute of CPU.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.kube.client import KubeClient
from connector_store.kube.config_loader import load_configuration
from lab.control_plane import ControlPlane
from lab.process import Process
from lab.programs import KUBERNETES, ensure_programs

DAEMON_SET = Path(__file__).parents[3] / "deploy" / "csi" / "daemonset.yaml"
NAMESPACE = NAME = "connectors-csi"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
DAEMON_SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
NODES = int(os.environ.get("ROLLOUT_NODES", "40"))
WAVE = NODES // 10
START_SECONDS = 20
"""Seconds in which a node stops its driver, starts the next one, and finds it ready."""
HOUR = 3600
VIRTUAL = {"virtual": {"type": "virtual-kubelet"}, "fargate": {"eks.amazonaws.com/compute-type": "fargate"}}
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
RUNNING = {"status": {"phase": "Running", "conditions": [READY]}}
CONCURRENCY = 8
PATIENCE = 300.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@asynccontextmanager
async def daemon_set_controller(plane: ControlPlane) -> AsyncIterator[None]:
    process = Process(
        [
            ensure_programs(KUBERNETES, ("kube-controller-manager",)) / "kube-controller-manager",
            f"--kubeconfig={plane.kubeconfig}",
            "--controllers=daemonset-controller",
            "--leader-elect=false",
            "--secure-port=0",
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
        ],
        log=plane.folder / "kube-controller-manager.log",
    )
    process.start()
    try:
        yield
    finally:
        process.kill()


async def run_all(calls: Iterable[Coroutine[Any, Any, Any]]) -> None:
    slots = asyncio.Semaphore(CONCURRENCY)

    async def run(call: Coroutine[Any, Any, Any]) -> None:
        async with slots:
            await call

    await asyncio.gather(*map(run, calls))


async def register_nodes(client: KubeClient) -> None:
    labels: dict[str, dict[str, str]] = {f"node-{number}": {} for number in range(NODES)} | VIRTUAL
    await run_all(
        client.create("/api/v1/nodes", {"metadata": {"name": name, "labels": {"kubernetes.io/os": "linux", **each}}})
        for name, each in labels.items()
    )


async def waiting_pods(client: KubeClient, count: int) -> list[str]:
    """Return the names of the pods that are not ready, when there are `count`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            page = await client.get(PODS, {"fieldSelector": "status.phase=Pending"}, metadata="list")
            names = [each["metadata"]["name"] for each in page["items"] or ()]
            assert len(names) <= count, "more drivers are away at a time than the strategy allows"
            if len(names) == count:
                return names
            await asyncio.sleep(0.2)


async def start_pods(client: KubeClient, names: list[str]) -> None:
    await run_all(client.patch(f"{PODS}/{name}/status", RUNNING) for name in names)


async def test_the_default_replaces_the_drivers_of_all_nodes_within_an_hour(
    private_control_plane: ControlPlane,
) -> None:
    plane = private_control_plane
    daemon_set = yaml.safe_load(DAEMON_SET.read_text())
    plane.create_namespace(NAMESPACE)
    plane.create_service_account(NAMESPACE, NAME)
    configuration = await load_configuration(kubeconfig=str(plane.kubeconfig))
    async with KubeClient(configuration) as client, daemon_set_controller(plane):
        await register_nodes(client)
        await client.create(DAEMON_SETS, daemon_set)
        await start_pods(client, await waiting_pods(client, NODES))
        restart = {"spec": {"template": {"metadata": {"annotations": {"example.com/restarted": "now"}}}}}
        await client.patch(f"{DAEMON_SETS}/{NAME}", restart)
        wave_count = 0
        for _ in range(0, NODES, WAVE):
            await start_pods(client, await waiting_pods(client, WAVE))
            wave_count += 1
        async with asyncio.timeout(PATIENCE):
            while True:
                status = (await client.get(f"{DAEMON_SETS}/{NAME}"))["status"]
                if status.get("updatedNumberScheduled") == status.get("numberAvailable") == NODES:
                    break
                await asyncio.sleep(0.2)
        assert status["desiredNumberScheduled"] == NODES, "no pod for a virtual node"
    seconds = wave_count * (START_SECONDS + daemon_set["spec"]["minReadySeconds"])
    assert seconds < HOUR / 10, "so that nodes that are ten times slower are within the hour, too"
