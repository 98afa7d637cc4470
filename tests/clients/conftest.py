"""Most clients run at the same time, with one control plane and one proxy."""

import os
import shutil
from collections.abc import Iterator

import pytest

from lab.control_plane import ControlPlane
from lab.go_modules import ProgramsMissingError
from tests.clients.agent import Agent, run_agent
from tests.clients.client_runs import ClientRuns, commands
from tests.clients.pod_view import PROXY_OPTIONS
from tests.cluster.kube.installation import install
from tests.cluster.kube.served_connector import cluster_proxy


@pytest.fixture(scope="session")
def client_programs() -> dict[str, list[str]]:
    """Client -> its command."""
    try:
        if shutil.which("unshare") is None:
            raise ProgramsMissingError("no unshare on PATH: these tests need Linux with util-linux")
        return commands()
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def client_runs(
    client_programs: dict[str, list[str]], control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClientRuns]:
    """The proxy serves the Connector, and no client was started."""
    install(control_plane)
    with cluster_proxy(tmp_path_factory.mktemp("proxy"), control_plane, options=PROXY_OPTIONS) as proxy:
        world = ClientRuns(control_plane, proxy, tmp_path_factory.mktemp("clients"), client_programs)
        try:
            world.view.wait_until_served()
            yield world
        finally:
            world.close()


@pytest.fixture(scope="session")
def world(client_runs: ClientRuns) -> ClientRuns:
    """Each client was started, and has begun or ended."""
    client_runs.start_all()
    return client_runs


@pytest.fixture(scope="session")
def renewed(world: ClientRuns) -> ClientRuns:
    """Renew each token, so that the first is refused, and then change the watched objects."""
    world.renew_tokens()
    world.write_third()
    return world


@pytest.fixture(scope="module")
def agent(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with run_agent(control_plane, tmp_path_factory.mktemp("agent")) as agent:
        yield agent
