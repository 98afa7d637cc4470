"""Argo CD and Flux: the health of a Connector, and no drift between manifests and the objects of a real API server."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.control_plane import ControlPlane
from lab.helm import Helm
from lab.kubectl import Kubectl
from lab.waiting import wait_until

ROOT = Path(__file__).parents[3]
HEALTH = ROOT / "deploy" / "examples" / "argocd" / "health.yaml"
SCRIPT = "resource.customizations.health.connectors.alauda.io_Connector"


def connector(generation: int, *conditions: dict[str, Any], observed: int | None = 2) -> dict[str, Any]:
    return {
        "metadata": {"name": "k8s", "generation": generation},
        "status": {"observedGeneration": observed, "conditions": list(conditions)},
    }


def ready(status: str, **fields: Any) -> dict[str, Any]:
    return {"type": "Ready", "status": status, "reason": "Why", "message": "do this", "observedGeneration": 2} | fields


OTHER = {"type": "SecretReady", "status": "False"}


@pytest.mark.parametrize(
    ("obj", "status", "message"),
    [
        pytest.param({"metadata": {"generation": 1}}, "Progressing", "waiting", id="no status yet"),
        pytest.param(connector(2, OTHER), "Progressing", "waiting", id="no condition Ready yet"),
        pytest.param(connector(3, ready("True")), "Progressing", "waiting", id="the status of an earlier spec"),
        pytest.param(
            connector(3, ready("True"), observed=3), "Progressing", "waiting", id="the condition of an earlier spec"
        ),
        pytest.param(connector(2, OTHER, ready("True")), "Healthy", "do this", id="ready"),
        pytest.param(
            connector(2, {"type": "Ready", "status": "True"}), "Healthy", "", id="ready, by an earlier release"
        ),
        pytest.param(connector(2, ready("False")), "Degraded", "Why: do this", id="not ready"),
        pytest.param(connector(2, ready("Unknown")), "Progressing", "do this", id="not probed yet"),
    ],
)
def test_the_health_check_of_argo_cd(
    lua_program: Path, tmp_path: Path, obj: dict[str, Any], status: str, message: str
) -> None:
    script = tmp_path / "health.lua"
    script.write_text(yaml.safe_load(HEALTH.read_text())["data"][SCRIPT])
    done = subprocess.run([lua_program, script], input=json.dumps(obj), capture_output=True, text=True, check=True)
    health = json.loads(done.stdout)
    assert health["status"] == status
    assert message in health["message"]


@pytest.fixture(scope="module")
def kubectl(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with ControlPlane(tmp_path_factory.mktemp("gitops"), programs=cluster_programs) as plane:
        yield plane.kubectl


def kustomized(kubectl: Kubectl, helm: Helm) -> str:
    return kubectl("kustomize", str(ROOT / "deploy"))


def charted(kubectl: Kubectl, helm: Helm) -> str:
    return helm("template", "kubernetes-connector", str(ROOT / "charts" / "kubernetes-connector"), "--skip-tests")


THREE_WAY, SERVER_SIDE = (), ("--server-side", "--force-conflicts")


@pytest.mark.parametrize(
    ("render", "style"),
    [
        pytest.param(kustomized, THREE_WAY, id="deploy, by a three-way diff, as Argo CD"),
        pytest.param(charted, SERVER_SIDE, id="the chart, by a server-side diff, as Flux"),
    ],
)
def test_objects_in_the_cluster_are_as_in_the_manifests(
    kubectl: Kubectl, helm: Helm, tmp_path: Path, render: Callable[[Kubectl, Helm], str], style: tuple[str, ...]
) -> None:
    """Both compare the fields that a manifest has. kubectl diff does the same."""
    path = tmp_path / "rendered.yaml"
    path.write_text(render(kubectl, helm))
    kubectl("apply", *style, "-f", str(path))
    # The API server writes the status of a definition a moment later, which would be a difference.
    established = ("wait", "--for=condition=Established", "crd", "--all", "--timeout=150s")
    # kubectl fails for a definition that has no conditions yet.
    wait_until(lambda: kubectl.run(*established).returncode == 0, "established definitions")
    done = kubectl.run("diff", *style, "-f", str(path))
    assert (done.returncode, done.stdout) == (0, "")
    live = {identity(each): each for each in kubectl.json("get", "-f", str(path))["items"]}
    manifests = [each for each in yaml.safe_load_all(path.read_text()) if each]
    drift = [f"{identity(each)}{one}" for each in manifests for one in differences(each, live[identity(each)])]
    assert drift == []


def identity(obj: dict[str, Any]) -> tuple[str, str, str]:
    return obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def differences(wanted: Any, live: Any, path: str = "") -> Iterator[str]:
    """Paths of the manifest whose value the API server does not keep as it is written."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        for key, value in wanted.items():
            yield from differences(value, live.get(key), f"{path}.{key}")
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for number, (value, kept) in enumerate(zip(wanted, live, strict=True)):
            yield from differences(value, kept, f"{path}[{number}]")
    elif wanted != live:
        yield f"{path}: {wanted!r} is {live!r}"
