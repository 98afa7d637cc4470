"""The ClusterTrustBundle on a real API server: made, followed through a rotation, and brought back."""

from typing import Any

from connector_controller.ca_rotation import ROTATE_ANNOTATION
from lab.controller import SYSTEM_NAMESPACE, ConnectorCluster, Controller
from lab.waiting import wait_until

BUNDLE = "/apis/certificates.k8s.io/v1/clustertrustbundles/connectors-proxy-ca"
CONFIG_MAP = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/connectors-proxy-ca"
SECRET = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/connectors-proxy-ca"


def bundle(world: ConnectorCluster) -> dict[str, Any]:
    answer = world.api.request("GET", BUNDLE)
    trust_bundle: dict[str, Any] = answer.json() if answer.status == 200 else {}
    return trust_bundle


def text(world: ConnectorCluster) -> str:
    return str(bundle(world).get("spec", {}).get("trustBundle", ""))


def published(world: ConnectorCluster) -> str:
    answer = world.api.request("GET", CONFIG_MAP)
    return str(answer.json()["data"]["ca.crt"]) if answer.status == 200 else "none yet"


def test_it_has_the_trusted_cas_through_a_rotation(world: ConnectorCluster, controller: Controller) -> None:
    wait_until(lambda: text(world) == published(world), "the bundle")
    first = text(world)
    [owner] = bundle(world)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Namespace", SYSTEM_NAMESPACE)
    world.api.call("PATCH", SECRET, {"metadata": {"annotations": {ROTATE_ANNOTATION: "now"}}})
    wait_until(lambda: text(world).count("BEGIN CERTIFICATE") > 1 and first.strip() in text(world), "both CAs in it")
    wait_until(lambda: text(world) == published(world) and first.strip() not in text(world), "the new one alone")


def test_changes_and_deletions_by_others_are_repaired(world: ConnectorCluster, controller: Controller) -> None:
    wait_until(lambda: text(world) == published(world), "the bundle")
    other = published(world).replace("BEGIN CERTIFICATE-----", "BEGIN CERTIFICATE-----\n", 1)
    world.api.call("PATCH", BUNDLE, {"metadata": {"labels": {"their": "label"}}, "spec": {"trustBundle": other}})
    wait_until(lambda: text(world) == published(world), "the bundle, mended")
    world.delete(BUNDLE)
    wait_until(lambda: text(world) == published(world), "the bundle, made anew")
