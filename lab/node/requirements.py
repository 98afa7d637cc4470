"""Requirements of a machine that runs a whole node; `scripts/install --node` installs them."""

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
    """Return PATH with the system folders, which the shell of a user may not have."""
    return f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"


def find_program(name: str) -> str:
    path = shutil.which(name, path=search_path())
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: {HINT}")
    return path


def find_missing() -> str:
    """Return an empty string, or one line with the missing requirement and the next step."""
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
