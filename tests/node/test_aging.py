"""A CSI driver whose wall clock moves while it runs: it keeps refreshing its volumes.

Only the wall clock of the driver moves. The API server keeps its clock. The driver's own token lasts two years, and the
pod's tokens last half an hour. The test calls the driver as kubelet does, because kubelet requests new tokens rarely.
"""

import json
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import grpc
import pytest

from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_store.domain.callers.pod_token import TOKENS_KEY
from connector_store.kube.server_clock import MAX_OFFSET
from lab.node.csi_driver import ADMIN_PORT, PLACEHOLDER_CA, TIMEOUT, CsiDriver, connector, eventually
from lab.node.node import Node
from lab.rbac import wait_for_rbac
from lab.wall_clock import DAY, WallClock

TWO_YEARS: Final = 800 * DAY
HALF_AN_HOUR: Final = 1800
"""Lifetime of the token of a pod, as in the CSIDriver."""
JUMPS: Final = {"ten minutes": 600, "an hour back": -3600, "a day": DAY, "200 days": 200 * DAY, "400 days": 400 * DAY}
OTHER_CA: Final = PLACEHOLDER_CA.replace("YQ==", "Yg==")
CLOCK_OFFSET: Final = "connector_clock_offset_seconds"
PREFIX: Final = "csi.storage.k8s.io/"


@pytest.fixture
def driver(node: Node, clock: WallClock) -> Iterator[CsiDriver]:
    # The path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="csi-", dir="/tmp") as folder:
        root = Path(folder)
        driver = CsiDriver(node, token_seconds=TWO_YEARS, kubelet_root=root, environment=clock.environment)
        (root / "plugins_registry").mkdir()
        driver.process.start()
        yield driver
        driver.uninstall()


class Volume:
    """Volume of a pod of the ServiceAccount `default`, with a Connector `k8s`."""

    def __init__(self, node: Node, driver: CsiDriver, namespace: str) -> None:
        self._node, self._namespace = node, namespace
        self.folder = driver.kubelet_root / "pods" / "uid" / "volumes" / "kubernetes.io~csi" / "connector" / "mount"
        self.folder.parent.mkdir(parents=True)
        self._channel = grpc.insecure_channel(f"unix://{driver.root}/csi.sock")
        self._stub = csi_pb2_grpc.NodeStub(self._channel)

    def publish(self) -> str:
        """Publish or refresh the volume with a new token, and return the token."""
        token = self._node.control_plane.issue_token(
            self._namespace, "default", audiences=["connectors-proxy"], lifetime=HALF_AN_HOUR
        )
        pod = {"pod.name": "web", "pod.namespace": self._namespace, "pod.uid": "uid"}
        context = {PREFIX + key: value for key, value in (pod | {"ephemeral": "true"}).items()}
        context |= {f"{PREFIX}serviceAccount.name": "default"}
        request = csi_pb2.NodePublishVolumeRequest(
            volume_id="csi-1",
            target_path=str(self.folder),
            readonly=True,
            volume_context=context | {"connector.name": "k8s", "configuration.names": "kubeconfig"},
        )
        request.secrets[TOKENS_KEY] = json.dumps({"connectors-proxy": {"token": token}})
        request.volume_capability.mount.SetInParent()
        request.volume_capability.access_mode.mode = csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER
        self._stub.NodePublishVolume(request, timeout=TIMEOUT, wait_for_ready=True)
        return token

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def close(self) -> None:
        request = csi_pb2.NodeUnpublishVolumeRequest(volume_id="csi-1", target_path=str(self.folder))
        self._stub.NodeUnpublishVolume(request, timeout=TIMEOUT)
        self._channel.close()


def scrape() -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/metrics", timeout=TIMEOUT) as response:
        text: str = response.read().decode()
        return text


def test_volumes_are_refreshed_after_the_wall_clock_moved(
    node: Node, driver: CsiDriver, clock: WallClock, node_namespace: str
) -> None:
    account = f"--serviceaccount={node_namespace}:default"
    node.kubectl("create", "rolebinding", "use", "--clusterrole=connectors-user", account, namespace=node_namespace)
    wait_for_rbac(node.api)
    node.api.apply(connector("k8s"), namespace=node_namespace)
    with closing(Volume(node, driver, node_namespace)) as volume:

        def refresh_until(address: str, ca_pem: str) -> None:
            """Refresh the volume until it has the address and the CA. Each refresh writes the new token."""
            tokens: list[tuple[str, str]] = []

            def is_current() -> bool:
                token = volume.publish()
                tokens.append((volume.read("context.token"), token))
                return address in volume.read("kubeconfig") and volume.read("ca.crt").strip() == ca_pem.strip()

            eventually(is_current)
            assert [pair for pair in tokens if pair[0] != pair[1]] == []

        refresh_until("192.168.1.100", PLACEHOLDER_CA)
        for number, seconds in enumerate(JUMPS.values()):
            clock.move(seconds)
            address, pem = f"10.0.0.{number}", PLACEHOLDER_CA if number % 2 else OTHER_CA
            node.api.apply(connector("k8s", address=f"https://{address}:6443"), namespace=node_namespace)
            driver.set_ca(pem)
            refresh_until(address, pem)
            metrics = scrape()
            (offset,) = (line.split()[1] for line in metrics.splitlines() if line.startswith(f"{CLOCK_OFFSET} "))
            assert abs(float(offset) - seconds) < MAX_OFFSET
            assert "connector_csi_volumes_stale 0.0" in metrics
            assert "connector_csi_republish_failures_total{" not in metrics
        assert "the clock of this node is " in driver.log.read_text()
        assert driver.process.is_running
        assert "Traceback" not in driver.log.read_text()
