"""A ServiceAccount of another real cluster, whose API server is the issuer, uses a Connector of this one."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until
from tests.cluster.kube.installation import grant_use
from tests.cluster.kube.served_connector import RECHECK, KubectlWatch, ServedConnector, cluster_proxy, connectorctl

ISSUER = "https://other.example"
CALLER = "other:system:serviceaccount:default:pipeline"

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def other(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A second cluster with public keys, as a cluster that other clusters trust has."""
    with ControlPlane(tmp_path_factory.mktemp("other"), programs=cluster_programs, issuer=ISSUER) as plane:
        plane.kubectl(
            "create", "clusterrolebinding", "discovery", "--clusterrole=system:service-account-issuer-discovery",
            "--group=system:unauthenticated",
        )  # fmt: skip
        plane.kubectl("create", "serviceaccount", "pipeline", namespace="default")
        wait_for_rbac(plane.api)
        yield plane


@pytest.fixture
def outside(served: ServedConnector, other: ControlPlane, tmp_path: Path) -> Iterator[ServedConnector]:
    """The same Connector by a proxy that trusts the other cluster's API server."""
    configuration = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "jwt": [
            {
                "issuer": {
                    "url": ISSUER,
                    "discoveryURL": f"{other.url}/.well-known/openid-configuration",
                    "certificateAuthority": other.ca_pem,
                    "audiences": ["connectors"],
                },
                "claimMappings": {"username": {"claim": "sub", "prefix": "other:"}},
            }
        ],
    }
    path = tmp_path / "authentication.yaml"
    path.write_text(json.dumps(configuration))
    with cluster_proxy(
        tmp_path / "home", served.plane, options={"connector_authentication": str(path), "connector_names": "localhost"}
    ) as proxy:
        connector = ServedConnector(plane=served.plane, proxy=proxy, namespace=served.namespace)
        connector.wait_until_synced()
        yield connector


def token(other: ControlPlane, audience: str = "connectors") -> str:
    """By a TokenRequest to the other cluster."""
    output = other.kubectl("create", "token", "pipeline", f"--audience={audience}", namespace="default")
    return output.strip()


def test_it_runs_kubectl_with_a_binding_and_loses_it_without(outside: ServedConnector, other: ControlPlane) -> None:
    kubectl = outside.kubectl(token(other))
    assert "or you may not use it" in outside.checked_whoami(kubectl)
    who = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": CALLER}
    grant_use(outside.plane, outside.namespace, subject=who, name="outside")
    wait_until(lambda: outside.whoami(kubectl) == "target", "the right to be seen")
    assert "kube-root-ca.crt" not in kubectl("get", "configmaps", namespace=outside.namespace)
    outside.plane.kubectl("delete", "rolebinding", "outside", namespace=outside.namespace)
    wait_until(lambda: outside.connect(token(other)).status == 403, f"the right to go, {RECHECK} s")


def test_a_watch_closes_when_its_binding_is_deleted(
    outside: ServedConnector, other: ControlPlane, tmp_path: Path
) -> None:
    who = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": CALLER}
    grant_use(outside.plane, outside.namespace, subject=who, name="watches")
    kubectl = outside.kubectl(token(other))
    wait_until(lambda: outside.whoami(kubectl) == "target", "the right to be seen")
    with KubectlWatch(kubectl, "configmaps", namespace=outside.namespace, log=tmp_path / "watch") as watch:
        numbers = itertools.count()
        create = ("create", "configmap")
        watch.wait_until_open(
            lambda: outside.plane.kubectl(*create, f"seen-{next(numbers)}", namespace=outside.namespace), "seen-"
        )
        outside.plane.kubectl("delete", "rolebinding", "watches", namespace=outside.namespace)
        watch.wait_for_end()

    def ends() -> set[tuple[str, str]]:
        watches = [each for each in outside.proxy.audit() if each["event"] == "stream" and each["verb"] == "watch"]
        return {(each["reason"], each["caller"]["user"]) for each in watches}

    wait_until(lambda: ("its caller may not use the Connector any more", CALLER) in ends(), "its audit record")


def test_another_audience_and_a_local_accounts_name_are_refused(outside: ServedConnector, other: ControlPlane) -> None:
    assert outside.checked_connect(token(other, "https://kubernetes.default.svc")).status == 407
    # A ServiceAccount of the same name here has the right; the prefix keeps the two apart.
    here = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": CALLER.removeprefix("other:")}
    grant_use(outside.plane, outside.namespace, subject=here, name="here")
    assert outside.checked_connect(token(other)).status == 403
    assert outside.checked_connect(outside.caller_token()).status == 200


def test_it_uses_direct_access_with_a_token_file_and_no_secret_in_its_kubeconfig(
    outside: ServedConnector, other: ControlPlane, tmp_path: Path
) -> None:
    grant_use(
        outside.plane,
        outside.namespace,
        subject={"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": CALLER},
        name="direct",
    )
    file = tmp_path / "projected"
    file.write_text(token(other))
    done = connectorctl(
        outside.plane, "kubeconfig", str(outside.key), "--oidc", f"file:{file}",
        "--proxy", f"https://localhost:{outside.proxy.port}",
        "--ca", str(outside.proxy.confdir / "mitmproxy-ca-cert.pem"),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_text() not in done.stdout
    path = tmp_path / "kubeconfig"
    path.write_text(done.stdout)
    kubectl = Kubectl(outside.plane.programs / "kubectl", path)
    wait_until(lambda: outside.whoami(kubectl) == "target", "the right to be seen")
    assert "kube-root-ca.crt" not in kubectl("get", "configmaps", namespace=outside.namespace)
    file.write_text(token(other, "elsewhere"))
    assert "is for another audience" in outside.checked_whoami(kubectl)
