"""The script in the pod of `helm test`, run against a real proxy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lab.control_plane import ControlPlane
from lab.helm import Helm
from lab.waiting import wait_until
from tests.cluster.kube.installation import AUDIENCE
from tests.cluster.kube.served_connector import NOT_CHECKED
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy

CHART = Path(__file__).parents[3] / "charts" / "kubernetes-connector"
MOUNT = "/var/run/secrets/connectors"


@pytest.mark.parametrize(
    ("audience", "returncode", "output"),
    [
        pytest.param(AUDIENCE, 0, ": 403 ", id="the proxy checks the token and refuses the pod"),
        pytest.param("another", 1, ": 407 ", id="the proxy does not accept the token"),
    ],
)
def test_it_expects_the_refusal_of_a_caller_without_a_right(
    helm: Helm,
    plane: ControlPlane,
    proxy: RunningProxy,
    own_namespace: str,
    tmp_path: Path,
    audience: str,
    returncode: int,
    output: str,
) -> None:
    manifests = yaml.safe_load_all(helm("template", "connector", str(CHART), "--show-only", "templates/test.yaml"))
    (pod,) = (each for each in manifests if each)
    (container,) = pod["spec"]["containers"]
    (tmp_path / "token").write_text(plane.issue_token(own_namespace, "default", audiences=[audience]))
    script = container["args"][0].replace(MOUNT, str(tmp_path))

    def checked() -> subprocess.CompletedProcess[str] | None:
        done = subprocess.run(
            [sys.executable, *container["command"][1:], script],
            env=os.environ | {"PROXY": f"127.0.0.1:{proxy.port}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_TIMEOUT,
        )
        return done if NOT_CHECKED not in done.stdout else None

    done = wait_until(checked, "the caller to be checked")
    assert (done.returncode, output in done.stdout) == (returncode, True), done.stdout + done.stderr
    assert ("expected 403" in done.stderr) is (returncode == 1)
