"""Fixtures of a real control plane, usable in every test.

`control_plane`            one for the whole session: do not disturb it, and work in a namespace of your own
`disturbed_control_plane`  one for the session to kill, pause and compact: it is set right behind each test
`disturbed_namespace`      a fresh namespace in that, with the ServiceAccount `default`
`private_control_plane`    one for this test alone, with nothing in it
`namespace`                a fresh namespace in `control_plane`, with the ServiceAccount `default`
`kubectl`                  `control_plane`'s kubectl as cluster-admin: kubectl("get", "pods", namespace=namespace)
`kubernetes_minor`         the minor version of the API server, as 37: `scripts/test versions` runs with others
`helm`                     Helm for charts alone: there is no cluster behind it. HELM names another program
`gateway_programs`         the folder with a gateway for a path, and a kubelet for exec (scripts/go/gateway)
`request_info_program`     Kubernetes' own parser of requests (scripts/go/request-info)
`lua_program`              Argo CD's interpreter of health checks (scripts/go/lua)
"""

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.go_modules import GoModule, ProgramsMissingError
from lab.helm import Helm
from lab.kubectl import Kubectl
from lab.programs import CLIENTS, GATEWAY, HELM, LUA, REQUEST_INFO, control_plane_programs, ensure_programs

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def cluster_programs() -> Path:
    """The folder with etcd, kube-apiserver and kubectl."""
    try:
        return control_plane_programs()
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kubernetes_minor(cluster_programs: Path) -> int:
    version = subprocess.run(
        [cluster_programs / "kube-apiserver", "--version"], capture_output=True, text=True, check=True
    ).stdout
    return int(version.split(".")[1])


@pytest.fixture(scope="session")
def control_plane(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("control-plane"), programs=cluster_programs) as plane:
        yield plane


@pytest.fixture(scope="session")
def plane_to_disturb(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """For fixtures of the session; tests take `disturbed_control_plane`."""
    with ControlPlane(tmp_path_factory.mktemp("disturbed"), programs=cluster_programs) as plane:
        yield plane


@pytest.fixture
def disturbed_control_plane(plane_to_disturb: ControlPlane) -> Iterator[ControlPlane]:
    yield plane_to_disturb
    plane_to_disturb.recover()


@pytest.fixture
def disturbed_namespace(disturbed_control_plane: ControlPlane) -> str:
    return disturbed_control_plane.create_namespace(f"test-{next(_NUMBERS)}")


@pytest.fixture
def private_control_plane(cluster_programs: Path, tmp_path: Path) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path / "control-plane", programs=cluster_programs) as plane:
        yield plane


@pytest.fixture
def kubectl(control_plane: ControlPlane) -> Kubectl:
    return control_plane.kubectl


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    return control_plane.create_namespace(f"test-{next(_NUMBERS)}")


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    home = tmp_path_factory.mktemp("helm")
    program = os.environ.get("HELM") or _folder_of(HELM, "helm") / "helm"
    return Helm(Path(program), home / "none.kubeconfig", home)


@pytest.fixture(scope="session")
def client_program() -> Path:
    """The program of scripts/go/clients, with client-go."""
    return _folder_of(CLIENTS, "client") / "client"


@pytest.fixture(scope="session")
def request_info_program() -> Path:
    return _folder_of(REQUEST_INFO) / "request-info"


@pytest.fixture(scope="session")
def lua_program() -> Path:
    return _folder_of(LUA) / "lua"


@pytest.fixture(scope="session")
def gateway_programs() -> Path:
    return _folder_of(GATEWAY)


def _folder_of(module: GoModule, *names: str) -> Path:
    try:
        return ensure_programs(module, names or tuple(module.packages))
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
