"""A session's control plane with our definitions and roles."""

from collections.abc import Iterator

import pytest

from lab.control_plane import ControlPlane
from tests.cluster.kube.installation import account_subject, bind, grant_use, install
from tests.cluster.kube.served_connector import ServedConnector, cluster_proxy
from tests.cluster.proxy.running_proxy import RunningProxy


@pytest.fixture(scope="session")
def plane(control_plane: ControlPlane) -> ControlPlane:
    """Shared: do not disturb it."""
    install(control_plane)
    return control_plane


@pytest.fixture
def private_plane(private_control_plane: ControlPlane) -> ControlPlane:
    """One test's own."""
    install(private_control_plane)
    return private_control_plane


@pytest.fixture(scope="session")
def installed_to_disturb(plane_to_disturb: ControlPlane) -> ControlPlane:
    install(plane_to_disturb)
    return plane_to_disturb


@pytest.fixture
def disturbed_plane(installed_to_disturb: ControlPlane, disturbed_control_plane: ControlPlane) -> ControlPlane:
    """The session's for tests that kill, pause or restart it."""
    return disturbed_control_plane


@pytest.fixture
def own_namespace(plane: ControlPlane, namespace: str) -> str:
    """A fresh namespace on the plane with our definitions."""
    return namespace


@pytest.fixture(scope="module")
def proxy(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """A proxy of the session's cluster."""
    with cluster_proxy(tmp_path_factory.mktemp("proxy"), plane) as running:
        yield running


@pytest.fixture
def served(plane: ControlPlane, proxy: RunningProxy, own_namespace: str) -> ServedConnector:
    """A Connector whose target the ServiceAccount `default` of a fresh namespace may use."""
    for account_name in ("target", "other"):
        plane.create_service_account(own_namespace, account_name)
        subject = account_subject(own_namespace, account_name)
        bind(plane, own_namespace, "cluster-admin", subject=subject, name=account_name)
    grant_use(plane, own_namespace, subject=account_subject(own_namespace))
    connector = ServedConnector(plane=plane, proxy=proxy, namespace=own_namespace)
    connector.apply()
    connector.wait_until_synced()
    return connector
