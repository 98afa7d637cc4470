"""lightkube, as it is; it has no exec."""

import sys
import time

import httpx2
from lightkube import ApiError, Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap

_use, namespace, name, last = sys.argv[1:]
NEXT = {"first": "second", "third": "fourth"}
# The default is 10 s, which is not enough on a busy machine. A watch has no timeout of reads.
client = Client(field_manager="lightkube", timeout=httpx2.Timeout(300))


def apply(state: str) -> None:
    client.apply(ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data={"state": state}), force=True)


def follow(version: str | None) -> bool:
    """True once the last state was seen, False where the watch has ended."""
    for kind, seen in client.watch(ConfigMap, namespace=namespace, resource_version=version):
        if seen.metadata.name == name:
            state = seen.data["state"]
            print("watched", kind, state, flush=True)
            if state == last:
                return True
            if state in NEXT:
                apply(NEXT[state])
    return False


print("got", client.get(ConfigMap, "seed", namespace=namespace).data["state"])
config_maps = client.list(ConfigMap, namespace=namespace)
for each in config_maps:
    print("listed", each.metadata.name)
apply("first")
version = config_maps.resourceVersion
while True:
    try:
        if follow(version):
            break
    except (ApiError, httpx2.HTTPError) as error:
        print(error, file=sys.stderr)
    version = None
    time.sleep(1)
