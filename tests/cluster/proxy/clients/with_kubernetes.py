"""The synchronous client; docs/clients.md has the lines that go before."""

import sys

from kubernetes import client, watch

namespace, name = sys.argv[1:]
api = client.CoreV1Api()


def apply(state: str) -> None:
    """Server-side, as `kubectl apply --server-side`."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"state": state}}
    options = {"field_manager": "kubernetes", "_content_type": "application/apply-patch+yaml"}
    api.patch_namespaced_config_map(name, namespace, body, **options)


print("got", api.read_namespaced_config_map("seed", namespace).data["state"])
found = api.list_namespaced_config_map(namespace)
for each in found.items:
    print("listed", each.metadata.name)
apply("first")
version = found.metadata.resource_version
for event in watch.Watch().stream(api.list_namespaced_config_map, namespace, resource_version=version):
    if event["object"].metadata.name == name:
        print("watched", event["type"], event["object"].data["state"])
        if event["type"] == "MODIFIED":
            break
        apply("second")
