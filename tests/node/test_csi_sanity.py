"""csi-sanity, the conformance test of CSI drivers, against the driver as kubelet runs it."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.node.csi_driver import CsiDriver, connector
from lab.node.csi_sanity_adapter import serve_adapter
from lab.node.node import Node
from lab.rbac import wait_for_rbac

EXPECTED = 13
"""Tests that apply to a driver of inline volumes: Identity 3, node 8, and "work" and "idempotent"."""


@contextmanager
def volumes_of_a_pod(node: Node) -> Iterator[Path]:
    """The folder of a pod's CSI volumes in kubelet's folder.

    kubelet removes the folders of unknown pods, unless one of their volumes is mounted.
    """
    folder = node.kubelet_root / "pods" / "sanity" / "volumes" / "kubernetes.io~csi"
    mount = folder / "held" / "mount"
    mount.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "held", mount], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", mount], check=True)


def test_it_passes_every_test_that_applies(
    node: Node, driver: CsiDriver, node_namespace: str, csi_sanity: Path
) -> None:
    node.api.apply(connector("k8s"), namespace=node_namespace)
    account = f"--serviceaccount={node_namespace}:default"
    grant = ("create", "rolebinding", "user", "--clusterrole=connectors-user", account)
    node.kubectl(*grant, namespace=node_namespace)
    wait_for_rbac(node.api)
    attributes = {
        "csi.storage.k8s.io/pod.name": "sanity",
        "csi.storage.k8s.io/pod.namespace": node_namespace,
        "csi.storage.k8s.io/pod.uid": "sanity",
        "csi.storage.k8s.io/serviceAccount.name": "default",
        "csi.storage.k8s.io/ephemeral": "true",
        "connector.name": "k8s",
        "configuration.names": "kubeconfig",
    }
    token = node.control_plane.issue_token(node_namespace, "default", audiences=["connectors-proxy"])
    secrets = {"csi.storage.k8s.io/serviceAccount.tokens": json.dumps({"connectors-proxy": {"token": token}})}
    socket = node.kubelet_root / "sanity.sock"
    with volumes_of_a_pod(node) as volumes, serve_adapter(socket, driver.root / "csi.sock", attributes, secrets):
        command = [
            str(csi_sanity),
            f"--csi.endpoint=unix://{socket}",
            f"--csi.mountdir={volumes}/connector",
            f"--csi.stagingdir={node.folder}/staging",
            "--ginkgo.skip=Controller Service|Controller Server",
            "--ginkgo.no-color",
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    match = re.search(r"(\d+) Passed \| (\d+) Failed", result.stdout)
    assert match is not None, result.stdout + result.stderr
    assert (int(match[1]), int(match[2])) == (EXPECTED, 0), result.stdout
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/pods/sanity" in line]
    assert token not in driver.log.read_text()
