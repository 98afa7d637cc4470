"""kubernetes.aio or kubernetes_asyncio, whichever the first argument names, as it is."""

import asyncio
import functools
import importlib
import os
import sys

import aiohttp

module, verb, namespace, name, *rest = sys.argv[1:]
client, config, watch = (importlib.import_module(f"{module}.{part}") for part in ("client", "config", "watch"))
NEXT = {"first": "second", "third": "fourth"}


async def apply(api: client.CoreV1Api, state: str) -> None:
    """Server-side, as `kubectl apply --server-side`."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"state": state}}
    options = {"field_manager": module, "force": True, "_content_type": "application/apply-patch+yaml"}
    await api.patch_namespaced_config_map(name, namespace, body, **options)


async def follow(api: client.CoreV1Api, version: str | None, last: str) -> bool:
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


async def use(last: str) -> None:
    async with client.ApiClient() as connection:
        api = client.CoreV1Api(connection)
        print("got", (await api.read_namespaced_config_map("seed", namespace)).data["state"])
        config_maps = await api.list_namespaced_config_map(namespace)
        for each in config_maps.items:
            print("listed", each.metadata.name)
        await apply(api, "first")
        version = config_maps.metadata.resource_version
    while True:
        try:
            async with client.ApiClient() as connection:
                if await follow(client.CoreV1Api(connection), version, last):
                    break
        except (client.ApiException, aiohttp.ClientError) as error:
            print(error, file=sys.stderr)
            # A kubeconfig is read once; the files of a service account are read again by themselves.
            if isinstance(error, client.ApiException) and error.status == 401 and "KUBECONFIG" in os.environ:
                await config.load_config()
        version = None
        await asyncio.sleep(1)


async def execute(command: list[str]) -> int:
    """In pod `name`, with this program's streams; gives the command's exit code."""
    streams = {1: sys.stdout.buffer, 2: sys.stderr.buffer}
    async with importlib.import_module(f"{module}.stream").WsApiClient() as connection:
        api = client.CoreV1Api(connection)
        # kubernetes.aio has a method for it, kubernetes_asyncio an argument.
        connect = getattr(api, "connect_get_namespaced_pod_exec_without_preload_content", None) or functools.partial(
            api.connect_get_namespaced_pod_exec, _preload_content=False
        )
        async with await connect(name, namespace, command=command, stdin=True, stdout=True, stderr=True) as socket:
            await socket.send_bytes(b"\0" + sys.stdin.buffer.read())
            async for message in socket:
                channel, data = message.data[0], message.data[1:]
                if channel in streams:
                    streams[channel].write(data)
                elif channel == 3:
                    return connection.parse_error_data(data)
    raise SystemExit("no exit code")


async def main() -> None:
    await config.load_config()
    if verb == "exec":
        sys.exit(await execute(rest))
    await use(*rest)


asyncio.run(main())
