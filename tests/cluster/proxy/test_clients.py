"""Other clients than kubectl with the kubeconfig of a workload, each a program of its own, as docs/clients.md says."""

import os
import subprocess
import sys

import pytest

from tests.clients.programs import PYTHON, SECOND, SEED, has_completed
from tests.cluster.proxy.proxied_connector import ProxiedConnector
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_client_gets_lists_applies_and_watches(proxied: ProxiedConnector, name: str) -> None:
    proxied.kubectl.apply(SEED, namespace=proxied.namespace)
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, *PYTHON[name], "use", proxied.namespace, name, SECOND],
        capture_output=True,
        text=True,
        timeout=WAIT_TIMEOUT,
        env=environment | {"KUBECONFIG": str(proxied.kubectl.kubeconfig)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert has_completed(done.stdout), done.stdout
