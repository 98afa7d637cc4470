"""kr8s, as it is."""

import asyncio
import sys

import kr8s.asyncio
from kr8s.asyncio.objects import ConfigMap

namespace, name = sys.argv[1:]


async def main() -> None:
    api = await kr8s.asyncio.api()
    seed = await ConfigMap.get("seed", namespace=namespace, api=api)
    print("got", seed.raw["data"]["state"])
    async for each in api.get("configmaps", namespace=namespace):
        print("listed", each.name)
    async for kind, seen in api.watch("configmaps", namespace=namespace):
        if seen.name == "seed":
            body = {"metadata": {"name": name, "namespace": namespace}, "data": {"state": "first"}}
            await (await ConfigMap(body, api=api)).create()
        elif seen.name == name:
            print("watched", kind, seen.raw["data"]["state"])
            if kind == "MODIFIED":
                break
            await seen.patch({"data": {"state": "second"}})


asyncio.run(main())
