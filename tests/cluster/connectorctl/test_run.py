"""`connectorctl run` with the real kubectl: through a proxy that exists only for the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.manifests import write_manifests
from tests.cluster.proxy.proxied_connector import TARGET_USER, manifests, target_token
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT

PROGRAM = str(Path(sys.executable).with_name("connectorctl"))


@pytest.mark.timeout(900)
def test_kubectl_and_doctor_run_through_a_proxy_of_their_own(control_plane: ControlPlane, tmp_path: Path) -> None:
    namespace = control_plane.create_namespace("run")
    write_manifests(tmp_path / "connectors", *manifests(control_plane, target_token(control_plane, namespace)))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    kubectl = str(control_plane.kubectl.program)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    command = [PROGRAM, "run", str(tmp_path / "connectors"), "--confdir", str(tmp_path / "keys"), "--"]
    script = (
        f'{kubectl} auth whoami -o "jsonpath={{.status.userInfo.username}}" && {PROGRAM} doctor "$KUBECONFIG" -o json'
    )
    done = subprocess.run(
        [*command, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=WAIT_TIMEOUT,
        check=False,
        env=environment | {"TMPDIR": str(temporary), "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    user, brace, document = done.stdout.partition("{")
    assert user == f"system:serviceaccount:{namespace}:{TARGET_USER}"
    steps = {step["check"]: step for step in json.loads(brace + document)["steps"]}
    assert {step["result"] for name, step in steps.items() if name != "TLS to the proxy"} == {"ok"}
    assert steps["who am I"]["detail"] == f"{user} at the target"
    assert steps["target"]["detail"].startswith("Kubernetes v1.")
    assert list(temporary.iterdir()) == []
