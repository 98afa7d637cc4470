"""scripts/demo as a newcomer runs it."""

import os
import re
import signal
import subprocess
from pathlib import Path

from lab.control_plane import ControlPlane

DEMO = Path(__file__).parents[2] / "scripts" / "demo"
TIMEOUT = 600.0


def test_it_shows_the_whole_way_and_ends(cluster_programs: Path) -> None:
    done = subprocess.run([DEMO, "--once"], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = re.findall(r"^(\d)\. ", done.stdout, re.MULTILINE)
    assert steps == ["1", "2", "3", "4", "5", "6", "7"]
    assert "system:serviceaccount:connector-demo:pipeline" in done.stdout
    assert "the watch saw: configmap/seen" in done.stdout
    assert "Proxy Authentication Required" in done.stdout
    assert "eyJ" not in done.stdout, "a token was printed"
    assert "Warning: " not in done.stdout + done.stderr


def test_it_stays_up_until_it_is_interrupted_and_leaves_nothing(cluster_programs: Path) -> None:
    # The children of a shell's background job ignore an interrupt.
    command = ["env", "--default-signal", str(DEMO)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stdout is not None
        folder = (
            next(line for line in running.stdout if line.startswith("Everything happens in")).split()[3].rstrip(",")
        )
        assert any("It stays up" in line for line in running.stdout)
        running.send_signal(signal.SIGINT)
        assert running.wait(TIMEOUT) == 0
    assert not Path(folder).exists()


def test_a_cluster_that_cannot_be_reached_is_an_error_and_no_traceback(cluster_programs: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [DEMO, "--once", "--kubeconfig", tmp_path / "none"], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "none") in done.stderr


def test_it_works_on_a_cluster_of_the_users_own_with_kubectl_alone_and_cleans_up(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    (tmp_path / "kubectl").symlink_to(control_plane.programs / "kubectl")
    command = [str(DEMO), "--once", "--kubeconfig", str(control_plane.kubeconfig)]
    environment = os.environ | {"KUBEBUILDER_ASSETS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    namespace = control_plane.api.call("GET", "/api/v1/namespaces/connector-demo")
    assert namespace["metadata"]["deletionTimestamp"]
