"""etcd is restored from an older backup: proxy and controller follow the restored state, and log that it went back."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.controller import ConnectorCluster, Controller
from lab.waiting import wait_until
from tests.cluster.kube.installation import account_subject, connector, grant_use
from tests.cluster.kube.served_connector import ServedConnector, cluster_proxy

WENT_BACK = "went back from version"
LEADS = " leads"
"""End of the line with which a controller begins to lead."""
WRITES = 300
"""Writes after the backup, more than the restored API server makes until the watches are back."""


@pytest.fixture
def world(private_plane: ControlPlane) -> ConnectorCluster:
    return ConnectorCluster(private_plane)


@pytest.fixture
def controller(world: ConnectorCluster) -> Iterator[Controller]:
    running = Controller(world.plane).start()
    yield running
    running.close()


def config_map(value: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "writes"}, "data": {"number": value}}


def test_a_restored_etcd_is_followed(world: ConnectorCluster, controller: Controller, tmp_path: Path) -> None:
    plane = world.plane
    namespace = plane.create_namespace("team-a")
    for account in ("target", "other"):
        plane.create_service_account(namespace, account)
    grant_use(plane, namespace, subject=account_subject(namespace))
    with ExitStack() as stack:
        proxy = stack.enter_context(cluster_proxy(tmp_path / "proxy", plane))
        served = ServedConnector(plane=plane, proxy=proxy, namespace=namespace)
        served.apply()
        served.wait_until_synced()
        kubectl, token = served.kubectl(), served.caller_token()
        world.wait_for_condition(namespace, "Ready", "True")
        plane.etcd.save(tmp_path / "backup")
        # The API server has a connection to etcd for each resource, each with its own back-off.
        plane.restart_apiserver()

        for number in range(WRITES):
            plane.api.apply(config_map(str(number)), namespace=namespace)
        served.rotate(account="other")
        plane.api.apply(connector("later", address=plane.url), namespace=namespace)
        later = ObjectKey(namespace, "later")
        wait_until(lambda: served.whoami(kubectl) == "other", "the new token")
        wait_until(lambda: served.connect(token, key=later).status == 200, "the Connector that is not in the backup")
        world.wait_for_condition(namespace, "Ready", "True", name="later")

        term_count = controller.log.count(LEADS)
        plane.stop()
        plane.etcd.restore(tmp_path / "backup")
        plane.start_apiserver()
        wait_until(lambda: served.whoami(kubectl) == "target", "the token of the backup")
        wait_until(lambda: served.connect(token, key=later).status == 403, "the end of the other Connector")
        # A controller that lost its Lease meanwhile, on a busy machine, begins to watch without an earlier version.
        wait_until(
            lambda: WENT_BACK in controller.log or controller.log.count(LEADS) > term_count, "the controller's line"
        )
        assert WENT_BACK in proxy.log.read_text()
        # The controller works with the versions of the restored objects.
        world.patch_connector(namespace, {"auth": {"name": "bearerTokenAuth", "secretRef": {"name": "absent"}}})
        world.wait_for_condition(namespace, "Ready", "False", "SecretNotFound")
        world.patch_connector(namespace, {"auth": {"name": "bearerTokenAuth", "secretRef": {"name": "k8s-secret"}}})
        world.wait_for_condition(namespace, "Ready", "True")
        wait_until(
            lambda: controller.read_metric('connector_controller_connectors{ready="True"}') == 1, "one Connector"
        )
