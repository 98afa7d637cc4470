"""Clients in pods: an image volume brings Helm, the client-go program and Python packages to images that exist."""

import re
import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lab.node.oci_image import write_archive
from lab.programs import CLIENTS, HELM, ensure_programs
from tests.journey.product import ROOT
from tests.journey.worker import worker_pod

IMAGE = "docker.io/kubernetes-connector/clients:1"
FOLDER = "/clients"
"""Where pods find it."""
CHART = Path(__file__).with_name("chart")
PYTHON = "/app/venv/bin/python"
"""In the product's image."""


def write_clients(archive: Path, scratch: Path) -> None:
    (scratch / "bin").mkdir(parents=True)
    for module, name in ((CLIENTS, "client"), (HELM, "helm")):
        shutil.copy(ensure_programs(module, [name]) / name, scratch / "bin" / name)
    shutil.copytree(CHART, scratch / "chart")
    lock = (ROOT / "requirements.lock").read_text()
    present: set[str] = {canonicalize_name(name) for name in re.findall(r"^(\S+)==", lock, re.MULTILINE)}
    for name in sorted(_missing_distributions("kr8s", present)):
        _copy_package(name, scratch / "packages")
    # The product's image has of it what reads a kubeconfig, and none of its API.
    _copy_package("kubernetes", scratch / "packages")
    write_archive(scratch, archive, name=IMAGE, command=[f"{FOLDER}/bin/client"])


def client_pod(name: str, image: str, command: list[str], *, account: str = "default", **volume: str) -> dict[str, Any]:
    """Runs once; `volume` is attributes of its connectors-csi volume."""
    pod = worker_pod(image, name, **volume)
    spec = pod["spec"]
    spec |= {"restartPolicy": "Never", "serviceAccountName": account}
    spec["volumes"].append({"name": "clients", "image": {"reference": IMAGE, "pullPolicy": "Never"}})
    [container] = spec["containers"]
    container["command"] = command
    container["env"] += [
        {"name": "HOME", "value": "/tmp"},
        {"name": "PYTHONPATH", "value": f"{FOLDER}/packages"},
    ]
    container["volumeMounts"].append({"name": "clients", "mountPath": FOLDER})
    return pod


def _missing_distributions(name: str, present: set[str]) -> set[str]:
    """Return the distribution and its requirements, without those in the image."""
    if name in present:
        return set()
    needed = {name}
    for each in map(Requirement, distribution(name).requires or []):
        if each.marker is None or each.marker.evaluate({"extra": ""}):
            needed |= _missing_distributions(canonicalize_name(each.name), present | needed)
    return needed


def _copy_package(name: str, folder: Path) -> None:
    """Without compiled modules, which are of this machine's Python; these packages have the same in Python too."""
    package = distribution(name)
    for file in package.files or []:
        if ".." not in file.parts and file.suffix not in (".so", ".pyc"):
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(package.locate_file(file)), target)
