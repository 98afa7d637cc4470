import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.controllers import Controller, World
from lab.targets import target
from tests.cluster.controller.scene import Scene


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


@pytest.fixture
def scene(world: World, namespace: str) -> Iterator[Scene]:
    with target() as server, contextlib.ExitStack() as closing:
        made = Scene(world, namespace, server, closing)
        made.secret()
        world.put_connector(namespace, address=server.address)
        world.until_condition(namespace, "Ready", "True")
        yield made
