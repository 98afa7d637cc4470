"""`scripts/cluster isolate` from outside: nothing of a run is left, whatever ended it."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from lab.node import cgroups
from lab.node.isolation import RUN_FOLDER_VARIABLE
from lab.node.requirements import find_missing
from lab.scratch import PREFIX
from lab.waiting import wait_until

CLUSTER = Path(__file__).parents[2] / "scripts" / "cluster"
TIMEOUT = 400.0

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(find_missing()), reason=find_missing() or "all is here"),
]


def left_of(folder: str) -> list[str]:
    name = Path(folder).name
    groups = [str(path) for hierarchy in cgroups.hierarchies() for path in hierarchy.glob(name)]
    return groups + ([folder] if Path(folder).exists() else [])


def test_it_has_its_own_processes_and_network_and_passes_on_the_exit_code() -> None:
    script = f"echo ${RUN_FOLDER_VARIABLE}; ip -json link; exit 5"
    done = subprocess.run([CLUSTER, "isolate", "sh", "-c", script], capture_output=True, text=True, timeout=TIMEOUT)
    folder, links = done.stdout.splitlines()
    assert done.returncode == 5
    assert Path(folder).name.startswith(PREFIX)
    assert [link["ifname"] for link in json.loads(links)] == ["lo", "node0"]
    assert left_of(folder) == []


def test_a_command_runs_beside_a_whole_node() -> None:
    command = [str(CLUSTER), "run", "--node", "kubectl", "get", "node", "node", "--no-headers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert "Ready" in done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["asked to end", "killed outright"])
def test_all_its_processes_end_with_it(number: signal.Signals) -> None:
    script = f"sleep 2468 & setsid sleep 2468 & echo ${RUN_FOLDER_VARIABLE}; wait"
    command = [str(CLUSTER), "isolate", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stdout is not None
        folder = running.stdout.readline().strip()
        running.send_signal(number)
        running.wait(TIMEOUT)
    wait_until(
        lambda: not any(map(_sleeps, Path("/proc").glob("[0-9]*/cmdline"))), "the end of all of them", timeout=TIMEOUT
    )

    def is_removed() -> bool:
        """Run another one, which removes the rest, unless the run of another test does it at this moment."""
        subprocess.run([CLUSTER, "isolate", "true"], check=True, timeout=TIMEOUT)
        return left_of(folder) == []

    wait_until(is_removed, "the removal of the rest", timeout=TIMEOUT)


def _sleeps(cmdline: Path) -> bool:
    try:
        return b"sleep\0002468" in cmdline.read_bytes()
    except OSError:
        return False
