"""`connectorctl import --apply` with a real API server, for the kubeconfig that kubeadm writes."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.waiting import TIMEOUT, wait_until
from tests.cluster.kube.installation import install_definitions

ROOT = Path(__file__).parents[3]


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


@pytest.mark.parametrize("by_script", [False, True], ids=["by the command", "by the script of a dry run"])
def test_an_account_on_the_target_is_created_and_works(
    control_plane: ControlPlane, namespace: str, tmp_path: Path, by_script: bool
) -> None:
    """There is no controller-manager, so this test writes the token into the Secret of the second account."""
    plane = control_plane
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").symlink_to(plane.kubectl.program)
    line = [
        *(sys.executable, "-m", "connectorctl", "import", "--kubeconfig", str(plane.kubeconfig), "--create-account"),
        *("--role", "view", "--account", f"{namespace}/{namespace}", "-n", "team-a", "--name", "target", "--read-only"),
    ]
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    if by_script:
        dry_run = subprocess.run([*line, "--dry-run"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        line = ["sh", "-euc", dry_run.stdout]
    with subprocess.Popen(line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as running:
        secret = f"{namespace}-minter"
        wait_until(lambda: exists(plane, secret, namespace), "the Secret of the second account")
        token = base64.b64encode(plane.issue_token(namespace, secret).encode()).decode()
        patch = json.dumps({"data": {"token": token}})
        plane.kubectl("patch", "secret", secret, "--patch", patch, namespace=namespace)
        _, err = running.communicate(timeout=TIMEOUT)
    assert running.returncode == 0, err
    file = tmp_path / "connectors" / "target.yaml"
    assert file.stat().st_mode & 0o077 == 0

    def is_accepted() -> bool:
        command = [sys.executable, "-m", "connectorctl", "check", "--probe"]
        checked = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        # A busy machine may not answer a probe in time.
        assert checked.returncode == 0 or "did not answer" in checked.stdout + checked.stderr, checked
        return (checked.returncode, checked.stdout) == (0, "")

    wait_until(is_accepted, "a check without findings")
    binding = plane.kubectl.json("get", "clusterrolebinding", namespace)
    assert binding["roleRef"]["name"] == "view"


def exists(plane: ControlPlane, secret: str, namespace: str) -> bool:
    return f"secret/{secret}" in plane.kubectl("get", "secrets", "-o", "name", namespace=namespace).split()
