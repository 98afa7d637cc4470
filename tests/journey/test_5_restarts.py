"""Restarts of what carries requests, while a pod sends them: none of them fails."""

import json
from collections.abc import Callable

import pytest

from addons.server.draining import ACCEPT_SECONDS
from tests.journey.product import SYSTEM, Product
from tests.journey.worker import NAMESPACE, Worker, worker_pod
from tests.journey.worker_commands import (
    FinishedCommand,
    WorkerCommands,
    running_proxies,
    stopped_at,
    wait_until_closed,
)

CLIENT = "client"
DRAIN = 10
ROUNDS = 4
"""Maximum number of restarts. On a busy machine, kube-proxy may see the end of a proxy too late for one of them."""
LOOP = """
(
  while [ ! -e /tmp/stop ]; do
    sleep 0.2
    if kubectl get --raw /version >/tmp/answer 2>&1
    then echo ok >>/tmp/results; else sed 's/^/failed: /' /tmp/answer >>/tmp/results; fi
  done
  touch /tmp/stopped
) >/dev/null 2>&1 &
"""


@pytest.fixture(scope="module")
def client(worker: Worker) -> Product:
    """Pod `client` uses the other cluster: a restart of its own takes nothing away but what the product needs."""
    product = worker.product
    attributes = {"connector_name": "target", "connector_namespace": "team-a", "configuration_names": "kubeconfig"}
    group = f"--group=system:serviceaccounts:{NAMESPACE}"
    product.kubectl("create", "rolebinding", NAMESPACE, "--clusterrole=connectors-user", group, namespace="team-a")
    product.api.apply(worker_pod(product.node.box_image, CLIENT, **attributes), namespace=NAMESPACE)
    product.node.wait_for_pod(CLIENT, NAMESPACE)
    return product


def shell(product: Product, script: str) -> str:
    return product.kubectl("exec", CLIENT, "--", "sh", "-c", script, namespace=NAMESPACE)


def meanwhile(product: Product, action: Callable[[], object], *, excused: str = "\n") -> None:
    """Run `action` during requests on new connections, in sequence; failures with the text `excused` do not count.

    Repeat that until no request fails.
    """
    failures: list[list[str]] = []
    while len(failures) < ROUNDS:
        shell(product, "rm -f /tmp/results /tmp/stop /tmp/stopped")
        shell(product, LOOP)
        wait_for(product, 3)
        action()
        wait_for(product, len(results(product).splitlines()) + 5)
        shell(product, "touch /tmp/stop; until [ -e /tmp/stopped ]; do sleep 0.1; done")
        failures.append([line for line in results(product).splitlines() if line != "ok" and excused not in line])
        if not failures[-1]:
            return
    raise AssertionError(f"{failures}\n{product.state()}")


def results(product: Product) -> str:
    return shell(product, "cat /tmp/results 2>/dev/null || true")


def wait_for(product: Product, requests: int) -> None:
    product.eventually(lambda: len(results(product).splitlines()) >= requests)


def restart_proxies(product: Product) -> None:
    deployment = "deployment/connectors-proxy"
    product.kubectl("rollout", "restart", deployment, namespace=SYSTEM)
    done = product.kubectl.run("rollout", "status", deployment, "--timeout=600s", namespace=SYSTEM, timeout=620)
    assert done.returncode == 0, product.state()


@pytest.fixture(scope="module")
def drain(client: Product) -> int:
    """Seconds that a proxy gives its streams, set as docs/install.md says."""
    old = running_proxies(client)
    patch = json.dumps({"data": {"drain": str(DRAIN)}})
    client.kubectl("patch", "configmap", "connectors-config", "--type=merge", "--patch", patch, namespace=SYSTEM)
    restart_proxies(client)
    # Who connects now may still be sent to one of these, which has another drain.
    for address in old.values():
        wait_until_closed(client, address)
    return DRAIN


def test_a_rolling_restart_of_the_proxies_fails_no_new_connection_and_lets_streams_end(
    client: Product, worker: Worker, drain: int
) -> None:
    streams = WorkerCommands(worker)
    carried: dict[str, int] = {}
    finished: list[FinishedCommand] = []

    def restart() -> None:
        nonlocal carried, finished
        carried = streams.start()
        restart_proxies(client)
        finished = streams.wait_until_finished()

    meanwhile(client, restart)
    # A watch is complete: its last chunk arrived. An exec is not, and its user gets the reason.
    assert [each for each in finished if "watch" in each.name and (each.code, each.error) != (0, "")] == []
    close_message = "websocket: close 1001 (going away): the proxy ends"
    assert [
        each for each in finished if "exec" in each.name and (each.code != 1 or close_message not in each.error)
    ] == []
    # The end of a command does not show its proxy, but the number of connections of each proxy is measured.
    stopped = {pod: stopped_at(client, pod) for pod in carried}
    may_have_ended = 0
    for pod in sorted(carried, key=lambda each: stopped[each]):
        early = [each for each in finished if each.finished_at < stopped[pod] + ACCEPT_SECONDS + drain]
        assert len(early) <= may_have_ended, f"{pod} of {carried}, stopped at {stopped}: {finished}"
        may_have_ended += carried[pod]
    # Output after the stop of the first proxy arrived.
    assert [each for each in finished if "exec" in each.name and int(each.last_line) <= min(stopped.values())] == []


def test_a_restart_of_the_controllers_fails_nothing(client: Product) -> None:
    controllers = ["-l", "app.kubernetes.io/name=connectors-controller"]

    def restart() -> None:
        client.kubectl("delete", "pod", "--grace-period=0", "--force", *controllers, namespace=SYSTEM)
        rollout = ["rollout", "status", "deployment/connectors-controller", "--timeout=400s"]
        assert client.kubectl.run(*rollout, namespace=SYSTEM, timeout=420).returncode == 0, client.state()

    meanwhile(client, restart)


def test_a_restart_of_the_api_server_fails_nothing_of_its_own_towards_another_cluster(client: Product) -> None:
    # Callers that the proxy checked within connector_recheck keep working; the others get the reason.
    meanwhile(client, client.node.control_plane.restart_apiserver, excused="the caller cannot be checked at the moment")
