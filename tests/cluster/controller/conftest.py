import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.controller import ConnectorCluster, Controller
from lab.targets import run_target
from tests.cluster.controller.scene import Scene


@pytest.fixture(scope="session")
def connector_cluster(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConnectorCluster]:
    with ControlPlane(tmp_path_factory.mktemp("controller"), programs=cluster_programs) as plane:
        yield ConnectorCluster(plane)


@pytest.fixture(scope="module")
def world(connector_cluster: ConnectorCluster) -> Iterator[ConnectorCluster]:
    """A control plane for one file of tests at a time, because controllers look at all of its namespaces."""
    yield connector_cluster
    connector_cluster.remove_objects()


@pytest.fixture(scope="module")
def controller(world: ConnectorCluster) -> Iterator[Controller]:
    running = Controller(world.plane).start()
    yield running
    running.close()


@pytest.fixture
def namespace(world: ConnectorCluster) -> str:
    return world.create_namespace()


@pytest.fixture
def scene(world: ConnectorCluster, namespace: str) -> Iterator[Scene]:
    with run_target() as server, contextlib.ExitStack() as closing:
        prepared = Scene(world, namespace, server, closing)
        prepared.put_secret()
        world.put_connector(namespace, address=server.address)
        world.wait_for_condition(namespace, "Ready", "True")
        yield prepared
