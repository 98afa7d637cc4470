"""The synchronous client. Tests put lines before it that define `load`, which configures it."""

import contextlib
import os
import sys
import time

from kubernetes import client, watch
from urllib3.exceptions import HTTPError

verb, namespace, name, *rest = sys.argv[1:]
NEXT = {"first": "second", "third": "fourth"}


def apply(api: client.CoreV1Api, state: str) -> None:
    """Server-side, as `kubectl apply --server-side`."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"state": state}}
    options = {"field_manager": "kubernetes", "force": True, "_content_type": "application/apply-patch+yaml"}
    api.patch_namespaced_config_map(name, namespace, body, **options)


def follow(api: client.CoreV1Api, version: str | None, last: str) -> bool:
    """True once the last state was seen, False where the watch has ended."""
    for event in watch.Watch().stream(api.list_namespaced_config_map, namespace, resource_version=version):
        if event["object"].metadata.name == name:
            state = event["object"].data["state"]
            print("watched", event["type"], state, flush=True)
            if state == last:
                return True
            if state in NEXT:
                apply(api, NEXT[state])
    return False


def use(last: str) -> None:
    api = client.CoreV1Api()
    print("got", api.read_namespaced_config_map("seed", namespace).data["state"])
    config_maps = api.list_namespaced_config_map(namespace)
    for each in config_maps.items:
        print("listed", each.metadata.name)
    apply(api, "first")
    version = config_maps.metadata.resource_version
    while True:
        try:
            if follow(api, version, last):
                break
        except (client.ApiException, HTTPError) as error:
            print(error, file=sys.stderr)
            # A kubeconfig is read once; the files of a service account are read again by themselves.
            if isinstance(error, client.ApiException) and error.status == 401 and "KUBECONFIG" in os.environ:
                load()
                api = client.CoreV1Api()
        version = None
        time.sleep(1)


def execute(command: list[str]) -> int:
    """In pod `name`, with this program's streams; gives the command's exit code."""
    from kubernetes.stream import stream

    streams = {"stdin": True, "stdout": True, "stderr": True, "_preload_content": False, "binary": True}
    connect = client.CoreV1Api().connect_get_namespaced_pod_exec
    connection = stream(connect, name, namespace, command=command, **streams)
    connection.write_stdin(sys.stdin.buffer.read())
    connection.run_forever()
    sys.stdout.buffer.write(connection.read_stdout())
    sys.stderr.buffer.write(connection.read_stderr())
    return connection.returncode


# In a pod it prints on stdout what it has found.
with contextlib.redirect_stdout(sys.stderr):
    load()
if verb == "exec":
    sys.exit(execute(rest))
use(*rest)
