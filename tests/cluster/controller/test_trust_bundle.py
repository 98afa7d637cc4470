"""The ClusterTrustBundle on a real API server: made, followed through a rotation, and brought back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from connector_controller.ca_rotation import ROTATE_ANNOTATION
from lab.control_plane import ControlPlane
from lab.controller import SYSTEM_NAMESPACE, ConnectorCluster, Controller
from lab.waiting import wait_until

STABLE: Final = 37
"""Minor version of Kubernetes that serves the kind as v1. Since 1.33, it is v1beta1 and off by default (KEP-3257)."""
ENABLED = (
    "--feature-gates=ClusterTrustBundle=true",
    "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
)
CONFIG_MAP = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/connectors-proxy-ca"
SECRET = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/connectors-proxy-ca"


@pytest.fixture(scope="module")
def world(
    cluster_programs: Path, kubernetes_minor: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConnectorCluster]:
    """A cluster with the kind, which has to be enabled in older API servers."""
    arguments = () if kubernetes_minor >= STABLE else ENABLED
    folder = tmp_path_factory.mktemp("trust-bundle")
    with ControlPlane(folder, programs=cluster_programs, arguments=arguments) as plane:
        yield ConnectorCluster(plane)


@pytest.fixture(scope="module")
def path(kubernetes_minor: int) -> str:
    version = "v1" if kubernetes_minor >= STABLE else "v1beta1"
    return f"/apis/certificates.k8s.io/{version}/clustertrustbundles/connectors-proxy-ca"


def bundle(world: ConnectorCluster, path: str) -> dict[str, Any]:
    answer = world.api.request("GET", path)
    trust_bundle: dict[str, Any] = answer.json() if answer.status == 200 else {}
    return trust_bundle


def text(world: ConnectorCluster, path: str) -> str:
    return str(bundle(world, path).get("spec", {}).get("trustBundle", ""))


def published(world: ConnectorCluster) -> str:
    answer = world.api.request("GET", CONFIG_MAP)
    return str(answer.json()["data"]["ca.crt"]) if answer.status == 200 else "none yet"


def test_it_has_the_trusted_cas_through_a_rotation(world: ConnectorCluster, path: str, controller: Controller) -> None:
    wait_until(lambda: text(world, path) == published(world), "the bundle")
    first = text(world, path)
    [owner] = bundle(world, path)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Namespace", SYSTEM_NAMESPACE)
    world.api.call("PATCH", SECRET, {"metadata": {"annotations": {ROTATE_ANNOTATION: "now"}}})
    wait_until(
        lambda: text(world, path).count("BEGIN CERTIFICATE") > 1 and first.strip() in text(world, path),
        "both CAs in it",
    )
    wait_until(
        lambda: text(world, path) == published(world) and first.strip() not in text(world, path), "the new one alone"
    )


def test_changes_and_deletions_by_others_are_repaired(
    world: ConnectorCluster, path: str, controller: Controller
) -> None:
    wait_until(lambda: text(world, path) == published(world), "the bundle")
    other = published(world).replace("BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE-----\n", 1)
    world.api.call("PATCH", path, {"metadata": {"labels": {"their": "label"}}, "spec": {"trustBundle": other}})
    wait_until(lambda: text(world, path) == published(world), "the bundle, mended")
    world.delete(path)
    wait_until(lambda: text(world, path) == published(world), "the bundle, made anew")
