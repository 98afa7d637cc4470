"""One proxy for the session's control plane, whose API server is also its target."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from tests.cluster.proxy.proxied_connector import TARGET_USER, ProxiedConnector, manifests, target_token
from tests.cluster.proxy.running_proxy import RunningProxy


@pytest.fixture(scope="module")
def proxied(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedConnector]:
    home: Path = tmp_path_factory.mktemp("proxy")
    namespace = control_plane.create_namespace(f"proxied-{home.name}".replace("_", "-"))
    token = target_token(control_plane, namespace)
    connector, secret = manifests(control_plane, token)
    proxy = RunningProxy(home, program="mitmdump")
    proxy.write("k8s.yaml", connector, secret)
    with proxy:
        yield ProxiedConnector(
            plane=control_plane,
            proxy=proxy,
            namespace=namespace,
            user=f"system:serviceaccount:{namespace}:{TARGET_USER}",
            token=token,
            connector=connector,
            kubectl=proxy.kubectl(control_plane.kubectl, connector),
        )
