"""A session's control plane with our definitions and roles."""

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kube.installed import install


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


@pytest.fixture
def own_namespace(plane: ControlPlane, namespace: str) -> str:
    """A fresh namespace beside our definitions."""
    return namespace
