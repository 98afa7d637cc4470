"""Private network, mount and process namespaces for a command. The addresses, mounts and processes of a node end with
them. `python -m lab.node.isolation CMD…` is PID 1 inside: it prepares the namespaces and runs CMD.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lab.node import cgroups
from lab.node.requirements import find_program, search_path
from lab.process import tie_to_parent
from lab.scratch import scratch_folder

ADDRESS = "10.77.0.1"
"""Address of the node; it exists only in the namespaces."""
RUN_FOLDER_VARIABLE = "KUBERNETES_CONNECTOR_NODE"
"""Environment variable in the namespaces: the folder of this run, which is removed after all its processes."""
PRIVATE_FOLDERS = (
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
    "/run/containerd",
    "/run/netns",
    "/run/nri",
)
GRACE = 20.0


def is_isolated() -> bool:
    return RUN_FOLDER_VARIABLE in os.environ


def run_folder() -> Path:
    """Return the folder of this run. Its name is the name of the run."""
    return Path(os.environ[RUN_FOLDER_VARIABLE])


def run_isolated(command: Sequence[str]) -> int:
    """Run the command and return its exit code. No process and no cgroup is left, also after a KeyboardInterrupt."""
    with scratch_folder() as folder:
        cgroups.remove_stale(folder.parent)
        try:
            return _run_isolated(command, folder)
        finally:
            cgroups.remove(folder.name)


def _run_isolated(command: Sequence[str], folder: Path) -> int:
    unshare = [find_program("unshare"), "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    init = [sys.executable, "-P", "-m", "lab.node.isolation"]
    child = subprocess.Popen(
        tie_to_parent([*unshare, *init, *command]),
        env=os.environ | {RUN_FOLDER_VARIABLE: str(folder), "PATH": search_path()},
    )
    try:
        code = child.wait()
        return code if code >= 0 else 128 - code
    except KeyboardInterrupt:
        with suppress(subprocess.TimeoutExpired, OSError):
            # unshare ignores SIGTERM.
            for init_pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split():
                os.kill(int(init_pid), signal.SIGTERM)
            child.wait(GRACE)
        raise
    finally:
        child.kill()
        child.wait()


def prepare_namespaces() -> None:
    _run("mount", "--make-rshared", "/")
    for folder in PRIVATE_FOLDERS:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "tmpfs", folder)
    _run("mount", "--make-rshared", "/var/lib/kubelet")
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "node0", "type", "bridge")
    _run("ip", "address", "add", f"{ADDRESS}/24", "dev", "node0")
    _run("ip", "link", "set", "node0", "up")
    _run("ip", "route", "add", "default", "via", "10.77.0.254", "dev", "node0")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n")
    resolver = Path("/run/netns/resolv.conf")
    resolver.write_text(f"nameserver {ADDRESS}\n")
    _run("mount", "--bind", str(resolver), str(Path("/etc/resolv.conf").resolve()))
    cgroups.create(run_folder().name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def run_init(command: Sequence[str]) -> int:
    """Run the command as PID 1 and return its exit code. Forward SIGTERM, and reap the orphans of container shims."""
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    prepare_namespaces()
    sys.exit(run_init(sys.argv[1:]))
