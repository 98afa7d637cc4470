"""The asynchronous half of the official client, as it is."""

import asyncio
import os
import sys

import aiohttp
from kubernetes.aio import client, config, watch

namespace, name, last = sys.argv[1:]
NEXT = {"first": "second", "third": "fourth"}


async def apply(api: client.CoreV1Api, state: str) -> None:
    """Server-side, as `kubectl apply --server-side`."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"state": state}}
    options = {"field_manager": "kubernetes", "force": True, "_content_type": "application/apply-patch+yaml"}
    await api.patch_namespaced_config_map(name, namespace, body, **options)


async def follow(api: client.CoreV1Api, version: str | None) -> bool:
    """True once the last state was seen, False where the watch has ended."""
    async with watch.Watch() as events:
        async for event in events.stream(api.list_namespaced_config_map, namespace, resource_version=version):
            if event["object"].metadata.name == name:
                state = event["object"].data["state"]
                print("watched", event["type"], state, flush=True)
                if state == last:
                    return True
                if state in NEXT:
                    await apply(api, NEXT[state])
    return False


async def main() -> None:
    await config.load_config()
    async with client.ApiClient() as connection:
        api = client.CoreV1Api(connection)
        print("got", (await api.read_namespaced_config_map("seed", namespace)).data["state"])
        found = await api.list_namespaced_config_map(namespace)
        for each in found.items:
            print("listed", each.metadata.name)
        await apply(api, "first")
        version = found.metadata.resource_version
    while True:
        try:
            async with client.ApiClient() as connection:
                if await follow(client.CoreV1Api(connection), version):
                    break
        except (client.ApiException, aiohttp.ClientError) as error:
            print(error, file=sys.stderr)
            # A kubeconfig is read once; the files of a service account are read again by themselves.
            if isinstance(error, client.ApiException) and error.status == 401 and "KUBECONFIG" in os.environ:
                await config.load_config()
        version = None
        await asyncio.sleep(1)


asyncio.run(main())
