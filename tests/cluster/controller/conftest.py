from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.controller.world import Controller, World


@pytest.fixture(scope="module")
def world(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A control plane for one file of tests: controllers look at all of its namespaces."""
    with ControlPlane(tmp_path_factory.mktemp("controller"), programs=cluster_programs) as plane:
        yield World(plane)


@pytest.fixture(scope="module")
def controller(world: World) -> Iterator[Controller]:
    made = Controller(world.plane).start()
    yield made
    made.close()


@pytest.fixture
def namespace(world: World) -> str:
    return world.namespace()
