"""scripts/cluster, run as users run it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lab.scratch import remove_stale_folders
from lab.waiting import wait_until

CLUSTER = Path(__file__).parents[2] / "scripts" / "cluster"
TIMEOUT = 400.0


def processes_with(text: str) -> list[str]:
    """Return the command lines that contain the text. Those of a control plane contain its folder."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            lines.append(line)
    return lines


def folder_of(kubeconfig: str) -> Path:
    return Path(kubeconfig.strip()).parent


WITH_DEFAULT_SIGNALS = ("env", "--default-signal")
"""Background jobs of a shell and children of nohup ignore signals; this restores the defaults."""


def test_the_exit_code_is_that_of_the_command(cluster_programs: Path) -> None:
    script = "echo $KUBECONFIG; kubectl get --raw /readyz >/dev/null || exit 9; exit 7"
    done = subprocess.run([CLUSTER, "run", "sh", "-c", script], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 7, done.stderr
    assert not folder_of(done.stdout).exists()
    assert processes_with(str(folder_of(done.stdout))) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_processes_and_removes_the_folder(cluster_programs: Path, number: signal.Signals) -> None:
    command = [*WITH_DEFAULT_SIGNALS, str(CLUSTER), "run", "sh", "-c", "echo $KUBECONFIG; exec sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stdout is not None
        folder = folder_of(running.stdout.readline())
        assert processes_with(str(folder))
        running.send_signal(number)
        assert running.wait(TIMEOUT) != 0
    assert not folder.exists()
    assert processes_with(str(folder)) == []


def test_sigkill_ends_all_processes_and_the_next_run_removes_the_folder(cluster_programs: Path) -> None:
    command = [str(CLUSTER), "run", "sh", "-c", "echo $KUBECONFIG; exec sleep 1357"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stdout is not None
        folder = folder_of(running.stdout.readline())
        running.kill()
    wait_until(
        lambda: processes_with(str(folder)) == [] and processes_with("sleep 1357") == [], "the end of all of them"
    )

    def is_removed() -> bool:
        """Remove the folder, unless the run of another test does it at this moment."""
        remove_stale_folders()
        return not folder.exists()

    wait_until(is_removed, "the removal of the folder")


@pytest.mark.slow
def test_missing_programs_are_named(tmp_path: Path) -> None:
    environment = os.environ | {"KUBEBUILDER_ASSETS": str(tmp_path)}
    done = subprocess.run([CLUSTER, "run", "true"], env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert "has no etcd, kubectl, kube-apiserver" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_command_is_named(cluster_programs: Path) -> None:
    done = subprocess.run([CLUSTER, "run", "no-such-command"], capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 127
    assert "cannot run no-such-command" in done.stderr
