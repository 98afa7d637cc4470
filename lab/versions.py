"""Run a command with another version of the API server and of Helm: python -m lab.versions 1.33 3 COMMAND…

etcd and kubectl stay those of the other tests. kubectl is then newer than its version skew policy allows.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.go_modules import ProgramsMissingError
from lab.programs import CONTROL_PLANE_PROGRAMS, HELM_3, KUBERNETES, OTHER_API_SERVERS, ensure_programs


def main(arguments: Sequence[str]) -> int:
    kubernetes, helm, *command = arguments
    try:
        environment = {"KUBEBUILDER_ASSETS": str(control_plane_of(kubernetes))}
        if helm == "3":
            environment["HELM"] = str(ensure_programs(HELM_3, ["helm"]) / "helm")
    except ProgramsMissingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return subprocess.run(command, env=os.environ | environment, check=False).returncode


def control_plane_of(version: str) -> Path:
    """Return a folder with etcd, kubectl, and kube-apiserver of that version. Build what is not in the cache."""
    current = ensure_programs(KUBERNETES, CONTROL_PLANE_PROGRAMS)
    if version not in OTHER_API_SERVERS:
        return current
    folder = ensure_programs(OTHER_API_SERVERS[version], ["kube-apiserver"])
    for name in ("etcd", "kubectl"):
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(current / name)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
