"""`connectorctl import --apply` with a real API server, for the kubeconfig that kubeadm writes."""

import subprocess
import sys

from lab.control_plane import ControlPlane
from tests.cluster.kube.installation import install_definitions


def apply(plane: ControlPlane, namespace: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "connectorctl", "import", str(plane.kubeconfig), "-n", namespace, "--apply"]
    environment = {"KUBECONFIG": str(plane.kubeconfig), "HOME": str(plane.folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_kubeconfig_with_a_certificate_becomes_objects(control_plane: ControlPlane, namespace: str) -> None:
    plane = control_plane
    install_definitions(plane)
    done = apply(plane, namespace)
    assert done.returncode == 0, done.stderr
    connector = plane.kubectl.json("get", "connector", "test", namespace=namespace)
    assert connector["spec"]["address"] == plane.url
    assert connector["spec"]["auth"] == {"name": "clientCertificateAuth", "secretRef": {"name": "test"}}
    secret = plane.kubectl.json("get", "secret", "test", namespace=namespace)
    assert set(secret["data"]) == {"tls.crt", "tls.key", "ca.crt"}
    assert secret["metadata"]["annotations"]["connectors.alauda.io/address"] == plane.url
    again = apply(plane, namespace)
    assert again.returncode == 1
    assert "already exists" in again.stderr


def test_a_connector_that_is_refused_leaves_no_secret(control_plane: ControlPlane, namespace: str) -> None:
    plane = control_plane
    install_definitions(plane)
    assert apply(plane, namespace).returncode == 0
    plane.kubectl("delete", "secret", "test", namespace=namespace)
    refused = apply(plane, namespace)
    assert refused.returncode == 1
    assert 'connectors.connectors.alauda.io "test" already exists' in refused.stderr
    assert plane.kubectl.json("get", "secrets", namespace=namespace)["items"] == []
