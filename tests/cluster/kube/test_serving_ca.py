"""The API server's certificate and its CA are replaced while the proxy runs: the proxy reads its CA file again."""

import base64
from pathlib import Path

import pytest
import yaml

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.waiting import wait_until
from tests.cluster.kube.installation import (
    account_subject,
    connector,
    grant_use,
    proxy_kubeconfig,
    secret,
)
from tests.cluster.kube.served_connector import ServedConnector, cluster_proxy

pytestmark = pytest.mark.timeout(900)


def kubeconfig_with_ca_file(plane: ControlPlane, ca_file: Path) -> Path:
    """Return the proxy's kubeconfig, with the path of the CA in place of its content, as a pod has it."""
    path = proxy_kubeconfig(plane)
    document = yaml.safe_load(path.read_text())
    cluster = document["clusters"][0]["cluster"]
    ca_file.write_bytes(base64.b64decode(cluster.pop("certificate-authority-data")))
    cluster["certificate-authority"] = str(ca_file)
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_proxy_follows_a_new_ca_of_the_api_server(private_plane: ControlPlane, tmp_path: Path) -> None:
    plane, ca_file = private_plane, tmp_path / "ca.crt"
    namespace = plane.create_namespace("team-a")
    for account in ("target", "newcomer"):
        plane.create_service_account(namespace, account)
    for account in ("default", "newcomer"):
        grant_use(plane, namespace, subject=account_subject(namespace, account), name=account)
    environment = {"KUBECONFIG": str(kubeconfig_with_ca_file(plane, ca_file))}
    with cluster_proxy(tmp_path / "proxy", plane, environment=environment) as proxy:
        served = ServedConnector(plane=plane, proxy=proxy, namespace=namespace)
        served.apply()
        served.wait_until_synced()
        pid = proxy.process.pid

        new_ca = plane.replace_serving_ca()
        ca_file.write_text(plane.ca_pem + new_ca)
        # A caller that the proxy has not verified needs a review, and a Connector that is new needs a watch.
        token = plane.issue_token(namespace, "target")
        plane.api.apply(
            secret("next-secret", token=token, ca_crt=new_ca),
            connector("next", address=plane.url, secret="next-secret"),
            namespace=namespace,
        )
        newcomer, key = served.caller_token("newcomer"), ObjectKey(namespace, "next")
        wait_until(lambda: served.connect(newcomer, key=key).status == 200, "the new Connector")
        kubectl = served.kubectl(newcomer, name="next")
        wait_until(lambda: served.whoami(kubectl) == "target", "a request through the new Connector")
        assert "the CA of the API server was read again" in proxy.log.read_text()
        assert proxy.process.pid == pid
