"""What a machine must have to run a whole node; `scripts/install --node` brings it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("busybox", "conntrack", "ip", "iptables", "mount", "runc", "unshare")
CNI_PLUGINS = Path("/usr/lib/cni")
HINT = "run `scripts/install --node` as root on Debian"
_SBIN = "/usr/sbin:/sbin:/usr/bin:/bin"


def search_path() -> str:
    """PATH with the system's own folders, where a user's shell may lack them."""
    return f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"


def find_program(name: str) -> str:
    path = shutil.which(name, path=search_path())
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: {HINT}")
    return path


def find_missing() -> str:
    """Empty, or one line that says what is absent and what to do."""
    names = [name for name in PROGRAMS if shutil.which(name, path=search_path()) is None]
    if not (CNI_PLUGINS / "bridge").exists():
        names.append("containernetworking-plugins")
    if os.getuid() != 0:
        return f"a node needs root; {HINT}, and run this as root"
    if names:
        return f"a node needs {', '.join(names)}: {HINT}"
    if subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode != 0:
        return "a node needs private network, mount and process namespaces; this machine (a container?) refuses them"
    return ""


if __name__ == "__main__":
    sys.exit(find_missing() or 0)
