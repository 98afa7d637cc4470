"""Other clients than kubectl with the kubeconfig of a workload, each a program of its own, as docs/clients.md says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.proxy.proxied import Proxied

DOCS = Path(__file__).parents[3] / "docs" / "clients.md"

AIO = """
import asyncio, sys
from kubernetes.aio import client, config

async def main():
    await config.load_kube_config()
    async with client.ApiClient() as api:
        found = await client.CoreV1Api(api).list_namespaced_config_map(sys.argv[1])
        print(*(each.metadata.name for each in found.items))

asyncio.run(main())
"""
KR8S = """
import asyncio, sys
import kr8s.asyncio

async def main():
    api = await kr8s.asyncio.api()
    print(*[each.name async for each in api.get("configmaps", namespace=sys.argv[1])])

asyncio.run(main())
"""
SYNC = """
import sys
print(*(each.metadata.name for each in client.CoreV1Api().list_namespaced_config_map(sys.argv[1]).items))
"""


def documented() -> str:
    """The lines that docs/clients.md has for the synchronous Python client."""
    [snippet] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return str(snippet)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(documented() + SYNC, id="kubernetes, with the lines of the documentation"),
        pytest.param(AIO, id="kubernetes.aio, as it is"),
        pytest.param(KR8S, id="kr8s, as it is"),
    ],
)
def test_a_python_client_lists_objects(proxied: Proxied, program: str) -> None:
    proxied.kubectl.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "for-clients"}}, namespace=proxied.namespace
    )
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-c", program, proxied.namespace],
        capture_output=True,
        text=True,
        timeout=100,
        env=environment | {"KUBECONFIG": str(proxied.kubectl.kubeconfig)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "for-clients" in done.stdout.split()
