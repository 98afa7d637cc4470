"""`connectorctl import --apply` beside a real API server, of the kubeconfig that kubeadm would write."""

import subprocess
import sys

from lab.control_plane import ControlPlane
from tests.cluster.kube.installed import install_definitions


def test_a_kubeconfig_with_a_certificate_becomes_objects(control_plane: ControlPlane, namespace: str) -> None:
    plane = control_plane
    install_definitions(plane)
    command = [sys.executable, "-m", "connectorctl", "import", str(plane.kubeconfig), "-n", namespace, "--apply"]
    environment = {"KUBECONFIG": str(plane.kubeconfig), "HOME": str(plane.folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    connector = plane.kubectl.json("get", "connector", "test", namespace=namespace)
    assert connector["spec"]["address"] == plane.url
    assert connector["spec"]["auth"] == {"name": "clientCertificateAuth", "secretRef": {"name": "test"}}
    secret = plane.kubectl.json("get", "secret", "test", namespace=namespace)
    assert set(secret["data"]) == {"tls.crt", "tls.key", "ca.crt"}
    assert secret["metadata"]["annotations"]["connectors.alauda.io/address"] == plane.url
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "already exists" in again.stderr
