"""Several controllers: one works, the next takes over, and nothing that is shown flaps meanwhile."""

import contextlib
import random
import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest

from lab.controller import SYSTEM_NAMESPACE, ConnectorCluster, Controller
from lab.targets import CA, TargetServer, run_target
from lab.waiting import TIMEOUT, wait_until

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/connectors-controller"


@pytest.fixture
def pair(world: ConnectorCluster) -> Iterator[tuple[Controller, Controller]]:
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(2):
            one = Controller(world.plane).start()
            stack.callback(one.close)
            started.append(one)
        wait_until(lambda: all(each.is_serving() for each in started), "admin addresses that serve")
        yield started[0], started[1]


def leading(controller: Controller) -> bool:
    return controller.read_metric("connector_controller_leading") == 1


def leader_first(pair: tuple[Controller, Controller]) -> tuple[Controller, Controller]:
    """Wait until exactly one of two controllers leads. Return it and the other."""

    def ordered() -> tuple[Controller, Controller] | None:
        first, second = pair
        match leading(first), leading(second):
            case True, False:
                return first, second
            case False, True:
                return second, first
        return None

    return wait_until(ordered, "one leader")


def transitions(world: ConnectorCluster, namespace: str) -> dict[str, tuple[str, str]]:
    status = world.get_connector(namespace)["status"]
    return {each["type"]: (each["status"], each["lastTransitionTime"]) for each in status["conditions"]}


def test_exactly_one_leads_and_another_takes_over_after_kill_9(
    world: ConnectorCluster, pair: tuple[Controller, Controller], namespace: str
) -> None:
    with run_target() as server:
        world.put_secret(namespace, token="t", ca_crt=CA.pem)
        world.put_connector(namespace, address=server.address)
        world.wait_for_condition(namespace, "Ready", "True")
        world.wait_for_proxy_address(namespace)
        first, second = leader_first(pair)
        before = transitions(world, namespace)
        version = world.get_connector(namespace)["metadata"]["resourceVersion"]

        first.process.kill()
        wait_until(lambda: leading(second) and second.is_serving("/readyz"), "the next leader")
        request_count = len(server.request_heads)
        wait_until(lambda: len(server.request_heads) > request_count + 4, "probes by the next one")
        assert transitions(world, namespace) == before
        assert world.get_connector(namespace)["metadata"]["resourceVersion"] == version, "not even written"
        world.put_secret(namespace, "s", token="")
        world.wait_for_condition(namespace, "Ready", "False", "SecretInvalid")


def test_a_stopped_leader_releases_the_lease_and_exits_with_0(
    world: ConnectorCluster, pair: tuple[Controller, Controller]
) -> None:
    first, second = leader_first(pair)
    holder = world.api.call("GET", LEASE)["spec"]["holderIdentity"]
    first.process.signal(signal.SIGTERM)
    wait_until(lambda: not first.process.is_running, "its end")
    assert "stopped" in first.log
    wait_until(lambda: leading(second), "the next leader")
    assert world.api.call("GET", LEASE)["spec"]["holderIdentity"] not in ("", holder)

    def releases() -> bool:
        """Stop the leader. On a busy machine, the API server may not answer within the two seconds of a release."""
        second.process.stop()
        if world.api.call("GET", LEASE)["spec"]["holderIdentity"] == "":
            return True
        second.start()
        wait_until(lambda: leading(second), "the leader to be back")
        return False

    wait_until(releases, "a released Lease")
    assert "Traceback" not in first.log + second.log


def test_a_paused_leader_is_replaced_and_stops_work(
    world: ConnectorCluster, pair: tuple[Controller, Controller]
) -> None:
    first, second = leader_first(pair)
    first.process.signal(signal.SIGSTOP)
    wait_until(lambda: leading(second), "the next leader")
    first.process.signal(signal.SIGCONT)
    wait_until(lambda: first.is_serving() and not leading(first), "the end of the first one's term")
    wait_until(lambda: leading(second), "the next leader to go on")


def test_a_controller_that_is_killed_anywhere_ends_in_the_same_state(world: ConnectorCluster) -> None:
    """Objects change all the while; what is left at the end is what one undisturbed controller would have made."""
    rng = random.Random(4)  # noqa: S311 - moments to kill at, and the same ones each time
    namespaces = [world.create_namespace() for _ in range(4)]
    with run_target() as server:
        controller = Controller(world.plane).start()
        try:
            for round_ in range(6):
                for number, namespace in enumerate(namespaces):
                    world.put_secret(namespace, token="t" if (number + round_) % 2 else "", ca_crt=CA.pem)
                    if round_ == 0 or (number == 3 and round_ % 2 == 0):
                        world.put_connector(namespace, address=server.address)
                    elif number == 3:
                        world.delete_connector(namespace)
                # The kill happens at a random point of the work that those changes cause.
                time.sleep(rng.uniform(0, 1.5))
                controller.process.kill()
                world.delete(LEASE)
                controller.process.start()
            for number, namespace in enumerate(namespaces[:3]):
                good = (number + 5) % 2 == 1
                world.wait_for_condition(
                    namespace, "Ready", "True" if good else "False", "" if good else "SecretInvalid"
                )
                wait_until(partial(world.get_service, namespace), "the Service of the Connector")
            wait_until(lambda: world.get_service(namespaces[3]) is None, "the end of the deleted Connector's Service")
            assert "Traceback" not in controller.log
        finally:
            controller.close()


def is_idle_during_probes(world: ConnectorCluster, server: TargetServer) -> bool:
    """Return True if the controller sends no request to the API server, besides watches, during a dozen probes."""
    start = world.plane.audit_log.stat().st_size
    request_count = len(server.request_heads)
    wait_until(lambda: len(server.request_heads) > request_count + 12, "more probes", timeout=2 * TIMEOUT)
    with world.plane.audit_log.open("rb") as log:
        log.seek(start)
        lines = log.read().decode(errors="replace").splitlines()
    requests = [line for line in lines if "connectors-controller/" not in line and "leases" not in line]
    ours = [line for line in requests if "serviceaccount:connectors-system:connectors-controller" in line]
    return all('"verb":"watch"' in line for line in ours)


def test_an_idle_controller_writes_nothing_and_reads_little(world: ConnectorCluster, namespace: str) -> None:
    with run_target() as server:
        controller = Controller(world.plane).start()
        try:
            world.put_secret(namespace, token="t", ca_crt=CA.pem)
            world.put_connector(namespace, address=server.address)
            world.put_connector(namespace, "other", address=server.address, connectorClassName="absent")
            world.wait_for_condition(namespace, "Ready", "True")
            world.wait_for_condition(namespace, "Ready", "False", "ConnectorClassNotFound", name="other")
            writes_nothing = partial(is_idle_during_probes, world, server)
            # Once a minute it proves that the admission policies are in force, which takes requests.
            wait_until(writes_nothing, "a dozen probes without a request to the API server", timeout=2 * TIMEOUT)
        finally:
            controller.close()
