"""The CSI driver as a process of the node, with the ServiceAccount of its DaemonSet."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab import manifests
from lab.node.node import Node
from lab.process import Process
from lab.waiting import wait_until

ROOT = Path(__file__).parents[2]
DRIVER = "connectors-csi"
SYSTEM_NAMESPACE = "connectors-system"
PLACEHOLDER_CA = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"
TOKEN_SECONDS = 600
"""Minimum lifetime of a token of TokenRequest."""
TIMEOUT = 400.0
"""Seconds that an action of kubelet may take on a busy machine. Its back-off for volumes reaches 2 minutes."""
ADMIN_PORT = 19809


class CsiDriver:
    """The driver in the cluster of `node`. `process` can be killed and started again.

    With another `kubelet_root` than that of kubelet, only a test calls the driver.
    """

    def __init__(
        self,
        node: Node,
        *,
        token_seconds: int,
        kubelet_root: Path | None = None,
        environment: Mapping[str, str] = {},
    ) -> None:
        self._node = node
        self.kubelet_root = kubelet_root or node.kubelet_root
        self.root = self.kubelet_root / "plugins" / DRIVER
        self.records = self.root / "volumes"
        self._install(token_seconds)
        # A token that is bound to the node has the node's name, as that of a pod of the DaemonSet has.
        bound = ("--bound-object-kind=Node", "--bound-object-name=node", "--duration=2h")
        token = node.kubectl("create", "token", DRIVER, *bound, namespace=DRIVER).strip()
        kubeconfig = node.control_plane.write_kubeconfig("csi.kubeconfig", {"token": token})
        arguments = [f"--kubeconfig={kubeconfig}", "--node-name=node", f"--admin=[::]:{ADMIN_PORT}"]
        arguments.append(f"--kubelet-root={self.kubelet_root}")
        self.log = node.folder / "csi.log"
        command = [sys.executable, "-m", "connector_csi", *arguments]
        self.process = Process(command, log=self.log, environment=environment)

    def start(self) -> None:
        """Start the driver, and wait until kubelet has registered it."""
        registration_count = self._count_registrations()
        self.process.start()
        self.process.wait_until(lambda: self._count_registrations() > registration_count, timeout=TIMEOUT)

    def set_ca(self, pem: str) -> None:
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "connectors-proxy-ca", "namespace": SYSTEM_NAMESPACE},
            "data": {"ca.crt": pem},
        }
        self._node.api.apply(manifest)

    def uninstall(self) -> None:
        self.process.stop()
        self._node.kubectl("delete", "csidriver", DRIVER, "--ignore-not-found")

    def _count_registrations(self) -> int:
        return self.log.read_text().count("registered with kubelet") if self.log.exists() else 0

    def _install(self, token_seconds: int) -> None:
        kubectl = self._node.kubectl
        kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/crds"))
        kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
        parts = ("system/namespace", "csi/namespace", "csi/csidriver", "csi/rbac", "rbac/users", "policy/access")
        for part in parts:
            kubectl("apply", "-f", str(ROOT / "deploy" / f"{part}.yaml"))
        requests = {"spec": {"tokenRequests": [{"audience": "connectors-proxy", "expirationSeconds": token_seconds}]}}
        kubectl("patch", "csidriver", DRIVER, "--type=merge", "--patch", json.dumps(requests))
        self.set_ca(PLACEHOLDER_CA)


def connector(name: str, *, address: str = "https://192.168.1.100:6443") -> dict[str, Any]:
    return manifests.connector(name, address, secret=f"{name}-secret")


def pod(
    name: str, image: str, attributes: dict[str, str], *, read_only: bool = True, security: Mapping[str, int] = {}
) -> dict[str, Any]:
    """Return a pod that runs as non-root. `security` is added to its securityContext (fsGroup)."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, **security},
            "containers": [
                {
                    "name": "box",
                    "image": image,
                    "env": [{"name": "KUBECONFIG", "value": "/connector/kubeconfig"}],
                    "volumeMounts": [{"name": "connector", "mountPath": "/connector"}],
                }
            ],
            "volumes": [
                {
                    "name": "connector",
                    "csi": {"driver": DRIVER, "readOnly": read_only, "volumeAttributes": attributes},
                }
            ],
        },
    }


def volume_path(node: Node, namespace: str, name: str) -> Path:
    """Return the path of a pod's volume `connector` on the node. Polling it needs less CPU than an exec."""
    uid: str = node.api.call("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")["metadata"]["uid"]
    return node.kubelet_root / "pods" / uid / "volumes" / "kubernetes.io~csi" / "connector" / "mount"


def eventually[T](poll: Callable[[], T | None], *, timeout: float = TIMEOUT) -> T:
    """Call `wait_until` with the time that an action of kubelet may take."""
    return wait_until(poll, poll.__qualname__, timeout=timeout)
