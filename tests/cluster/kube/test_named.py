"""The cache of a CSI driver on a real API server, with its role: it reads requested objects, but no status writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.watch_cursor import RawObject
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.on_demand import OnDemandCache
from connector_store.kube.resources import CONNECTORS
from lab.control_plane import ControlPlane
from lab.kubectl import write_kubeconfig
from tests.cluster.kube.installation import DEPLOY, connector
from tests.fakes.waiting import PATIENCE, until


@asynccontextmanager
async def running_cache(plane: ControlPlane, deliveries: list[RawObject | None]) -> AsyncIterator[OnDemandCache]:
    for file in ("namespace.yaml", "rbac.yaml"):
        plane.kubectl("apply", "-f", str(DEPLOY / "csi" / file))
    user = {"token": plane.issue_token("connectors-csi", "connectors-csi")}
    path = write_kubeconfig(plane.folder / "csi.kubeconfig", server=plane.url, ca_pem=plane.ca_pem, user=user)
    async with KubeClient(await config_loader.load_configuration(kubeconfig=str(path))) as client:
        cache = OnDemandCache(client, CONNECTORS, lambda _, raw: deliveries.append(raw), read_jitter=0.01)
        watch = cache.make_watch(watch_timeout=60)
        tasks = [asyncio.ensure_future(cache.run()), asyncio.ensure_future(watch.run())]
        try:
            yield cache
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def addresses(deliveries: list[RawObject | None]) -> list[str | None]:
    return [each["spec"]["address"] if each is not None else None for each in deliveries]


async def test_it_is_read_once_and_after_each_change_of_its_spec(plane: ControlPlane, own_namespace: str) -> None:
    first, second = "https://192.0.2.1:6443", "https://192.0.2.2:6443"
    deliveries: list[RawObject | None] = []
    plane.api.apply(connector("k8s", address=first), connector("other"), namespace=own_namespace)
    async with running_cache(plane, deliveries) as cache:
        await asyncio.wait_for(cache.load([ObjectKey(own_namespace, "k8s")]), PATIENCE)
        status = '{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Probed"}]}}'
        patch = ("patch", "connector", "k8s", "--subresource=status", "--type=merge", "-p", status)
        plane.kubectl(*patch, namespace=own_namespace)
        plane.api.apply(connector("k8s", address=second), namespace=own_namespace)
        await until(lambda: addresses(deliveries)[-1:] == [second])
        plane.kubectl("delete", "connector", "k8s", namespace=own_namespace)
        await until(lambda: deliveries[-1] is None)
    assert addresses(deliveries) == [first, second, None]
