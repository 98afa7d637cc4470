"""kopf in its three installations, each in the ways that docs/clients.md names: operators that watch and patch.

kopf chooses its login by the packages that it can import, so each installation logs in differently.
"""

import json
from collections.abc import Iterator

import pytest

from lab.waiting import wait_until
from tests.clients.client_runs import ClientRun, ClientRuns, run_name
from tests.clients.pod_view import DIRECT, IN_CLUSTER, NAMESPACE, VIA_PROXY_URL, WITH_TOKEN, AccessMethod
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT

# Without other packages, kopf connects to kubernetes.default.svc in a pod, whatever KUBERNETES_SERVICE_HOST says.
INSTALLATIONS: dict[str, tuple[AccessMethod, ...]] = {
    "kopf": (WITH_TOKEN, VIA_PROXY_URL),
    "kopf-kubernetes": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "kopf-pykube": (IN_CLUSTER, WITH_TOKEN, VIA_PROXY_URL),
}
METHODS = [(client, method) for client, methods in INSTALLATIONS.items() for method in methods]


@pytest.fixture(scope="module")
def operators(client_runs: ClientRuns) -> Iterator[ClientRuns]:
    """Create the ConfigMaps, and start all operators."""
    others = dict(client_runs.runs)
    for client, method in METHODS:
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": run_name(client, method)}}
        client_runs.plane.api.apply(config_map | {"data": {"state": "first"}}, namespace=NAMESPACE)
        client_runs.start(client, method)
    yield client_runs
    for name in client_runs.runs.keys() - others.keys():
        client_runs.runs.pop(name).process.kill()


@pytest.mark.parametrize("name", [run_name(client, method) for client, method in METHODS])
def test_an_operator_lists_watches_and_patches(operators: ClientRuns, name: str) -> None:
    run = operators.runs[name]
    assert has_reached(operators, run, "second"), run.output()[-4000:]
    patch = json.dumps({"data": {"state": "third"}})
    operators.plane.kubectl("patch", "configmap", name, "--type=merge", "-p", patch, namespace=NAMESPACE)
    assert has_reached(operators, run, "fourth"), run.output()[-4000:]
    wait_until(lambda: {"list", "watch", "patch"} <= operators.audited_verbs(run), f"the audit records of {name}")


def has_reached(operators: ClientRuns, run: ClientRun, state: str) -> bool:
    """Wait until the operator has changed the state, or has ended."""
    wait_until(
        lambda: operators.state_of(run) == state or not run.process.is_running,
        f"{run.name} to write {state}",
        timeout=WAIT_TIMEOUT * 2,
    )
    return operators.state_of(run) == state
