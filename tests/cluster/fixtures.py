"""Fixtures of a real control plane, usable in every test.

`control_plane`            one for the whole session: do not disturb it, and work in a namespace of your own
`disturbed_control_plane`  one for the session to kill, pause and compact: it is set right behind each test
`disturbed_namespace`      a fresh namespace in that, with the ServiceAccount `default`
`private_control_plane`    one for this test alone, with nothing in it
`namespace`                a fresh namespace in `control_plane`, with the ServiceAccount `default`
`kubectl`                  `control_plane`'s kubectl as cluster-admin: kubectl("get", "pods", namespace=namespace)
`helm`                     Helm for charts alone: there is no cluster behind it
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.helm import Helm
from lab.kubectl import Kubectl
from lab.programs import CLIENTS, ProgramsMissingError, control_plane_programs, ensure_programs

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
    try:
        return Helm(ensure_programs(CLIENTS, ["helm"]) / "helm", home / "none.kubeconfig", home)
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
