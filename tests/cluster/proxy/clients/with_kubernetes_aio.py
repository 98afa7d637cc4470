"""The asynchronous half of the official client, as it is."""

import asyncio
import sys

from kubernetes.aio import client, config, watch

namespace, name = sys.argv[1:]


async def apply(api: client.CoreV1Api, state: str) -> None:
    """Server-side, as `kubectl apply --server-side`."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"state": state}}
    options = {"field_manager": "kubernetes", "_content_type": "application/apply-patch+yaml"}
    await api.patch_namespaced_config_map(name, namespace, body, **options)


async def main() -> None:
    await config.load_kube_config()
    async with client.ApiClient() as connection:
        api = client.CoreV1Api(connection)
        print("got", (await api.read_namespaced_config_map("seed", namespace)).data["state"])
        found = await api.list_namespaced_config_map(namespace)
        for each in found.items:
            print("listed", each.metadata.name)
        await apply(api, "first")
        version = found.metadata.resource_version
        async with watch.Watch() as events:
            async for event in events.stream(api.list_namespaced_config_map, namespace, resource_version=version):
                if event["object"].metadata.name == name:
                    print("watched", event["type"], event["object"].data["state"])
                    if event["type"] == "MODIFIED":
                        break
                    await apply(api, "second")


asyncio.run(main())
