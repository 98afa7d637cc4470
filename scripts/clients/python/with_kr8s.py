"""kr8s, as it is."""

import asyncio
import sys

import httpx
import kr8s.asyncio
from kr8s.asyncio.objects import ConfigMap, Pod

verb, namespace, name, *rest = sys.argv[1:]
NEXT = {"first": "second", "third": "fourth"}


async def follow(api: kr8s.asyncio.Api, last: str) -> bool:
    """True once the last state was seen, False where the watch has ended."""
    async for kind, seen in api.watch("configmaps", namespace=namespace):
        if (
            seen.name == "seed"
            and not await ConfigMap({"metadata": {"name": name, "namespace": namespace}}, api=api).exists()
        ):
            body = {"metadata": {"name": name, "namespace": namespace}, "data": {"state": "first"}}
            await (await ConfigMap(body, api=api)).create()
        elif seen.name == name:
            state = seen.raw["data"]["state"]
            print("watched", kind, state, flush=True)
            if state == last:
                return True
            if state in NEXT:
                await seen.patch({"data": {"state": NEXT[state]}})
    return False


async def use(api: kr8s.asyncio.Api, last: str) -> None:
    seed = await ConfigMap.get("seed", namespace=namespace, api=api)
    print("got", seed.raw["data"]["state"])
    async for each in api.get("configmaps", namespace=namespace):
        print("listed", each.name)
    while True:
        try:
            if await follow(api, last):
                break
        # An AttributeError is what kr8s makes of an event ERROR, by which API servers end a watch too.
        except (kr8s.ServerError, httpx.HTTPError, AttributeError) as error:
            print(repr(error), file=sys.stderr)
        await asyncio.sleep(1)


async def execute(api: kr8s.asyncio.Api, command: list[str]) -> int:
    """In pod `name`, with this program's streams, but for stdin, for which kr8s asks for no protocol that has it."""
    pod = await Pod.get(name, namespace=namespace, api=api)
    done = await pod.exec(command, stdout=sys.stdout.buffer, stderr=sys.stderr.buffer, check=False)
    return done.returncode


async def main() -> None:
    api = await kr8s.asyncio.api()
    if verb == "exec":
        sys.exit(await execute(api, rest))
    await use(api, *rest)


asyncio.run(main())
