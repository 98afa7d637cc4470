"""A controller that may read some namespaces only serves one more when it gets its RoleBinding, without a restart."""

import time
from collections.abc import Iterator

import pytest

from lab.controller import ROOT, SYSTEM_NAMESPACE, ConnectorCluster, Controller
from lab.rbac import wait_for_rbac
from lab.targets import CA, run_target
from lab.waiting import fastest

ROLE = "connectors-controller-namespace"
ACCEPTABLE = 5.0
"""Seconds from the RoleBinding to the condition Ready, besides the first probe."""


@pytest.fixture
def bound_controller(world: ConnectorCluster) -> Iterator[Controller]:
    world.plane.kubectl("delete", "clusterrolebinding", ROLE)
    wait_for_rbac(world.api)
    running = Controller(world.plane, {"CONNECTORS_NAMESPACES": "RoleBinding"}).start()
    yield running
    running.close()
    world.plane.kubectl("apply", "-f", str(ROOT / "deploy/system/controller-rbac.yaml"))


def test_a_connector_becomes_ready_when_its_namespace_is_bound(
    world: ConnectorCluster, bound_controller: Controller
) -> None:
    kubectl, namespace = world.plane.kubectl, world.create_namespace()
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": ROLE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE},
        "subjects": [{"kind": "ServiceAccount", "namespace": SYSTEM_NAMESPACE, "name": "connectors-controller"}],
    }
    with run_target() as server:
        world.put_secret(namespace, token="t", ca_crt=CA.pem)
        world.put_connector(namespace, address=server.address)
        world.wait_for_condition(namespace, "Ready", "False", "NamespaceNotServed")
        pid = bound_controller.process.pid

        def measure() -> float:
            bound_at = time.monotonic()
            world.api.apply(binding, namespace=namespace)
            world.wait_for_condition(namespace, "Ready", "True")
            seconds = time.monotonic() - bound_at
            assert world.get_service(namespace) is not None
            kubectl("delete", "rolebinding", ROLE, namespace=namespace)
            world.wait_for_condition(namespace, "Ready", "False", "NamespaceNotServed")
            return seconds

        assert fastest(measure, ACCEPTABLE) < ACCEPTABLE
        assert bound_controller.process.pid == pid
