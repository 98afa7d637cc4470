"""A Connector of each kind of credential, on a real API server: who the target says that we are, and when it ends."""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.manifests import connector, service_account_token_auth
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until
from tests.cluster.proxy.proxied_connector import target_token
from tests.cluster.proxy.running_proxy import RunningProxy

MINTER = "minter"
BEARER = "connectors.cpaas.io/bearer-token"
CERTIFICATE = "connectors.cpaas.io/client-certificate"


@dataclass(frozen=True, kw_only=True)
class Kinds:
    plane: ControlPlane
    proxy: RunningProxy
    namespace: str
    tokens: dict[str, str]
    """Content of the Secrets, by Connector."""

    def connector(self, name: str) -> dict[str, Any]:
        if name == "certificate":
            auth = {"name": "clientCertificateAuth", "secretRef": {"name": name}}
        else:
            auth = service_account_token_auth(f"{self.namespace}/target", secret=name, seconds=3600)
        return connector(name, self.plane.url, namespace="team-a", auth=auth)

    def secret(self, name: str, kind: str, **data: str) -> dict[str, Any]:
        content = {key.replace("_", "."): value for key, value in data.items()} | {"ca.crt": self.plane.ca_pem}
        metadata = {"name": name, "namespace": "team-a"}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind, "stringData": content}

    def kubectl(self, name: str) -> Kubectl:
        return self.proxy.kubectl(self.plane.kubectl, self.connector(name))

    def whoami(self, name: str) -> str:
        return self.kubectl(name)("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")


def may_mint(plane: ControlPlane, namespace: str, user: dict[str, str]) -> None:
    """The smallest Role: tokens of one ServiceAccount, and nothing else."""
    rule = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["target"], "verbs": ["create"]}
    group = {"apiGroup": "rbac.authorization.k8s.io"}
    name = f"mint-{user['name']}"
    plane.api.apply(
        {"apiVersion": f"{group['apiGroup']}/v1", "kind": "Role", "metadata": {"name": name}, "rules": [rule]},
        {
            "apiVersion": f"{group['apiGroup']}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {**group, "kind": "Role", "name": name},
            "subjects": [user],
        },
        namespace=namespace,
    )


def issue(plane: ControlPlane, name: str, *groups: str) -> dict[str, str]:
    certificate, key = plane.ca.issue(name, common_name=name, groups=groups)
    return {"tls_crt": certificate.read_text(), "tls_key": key.read_text()}


@pytest.fixture(scope="module")
def kinds(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kinds]:
    plane, home = control_plane, tmp_path_factory.mktemp("kinds")
    namespace = plane.create_namespace(home.name)
    target_token(plane, namespace)
    plane.create_service_account(namespace, MINTER)
    may_mint(plane, namespace, {"kind": "ServiceAccount", "name": MINTER, "namespace": namespace})
    may_mint(plane, namespace, {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "cert-minter"})
    wait_for_rbac(plane.api)
    token = plane.issue_token(namespace, MINTER)
    proxy = RunningProxy(home)
    prepared = Kinds(plane=plane, proxy=proxy, namespace=namespace, tokens={"by-token": token})
    proxy.write(
        "k8s.yaml",
        *(prepared.connector(each) for each in ("by-token", "by-certificate", "certificate")),
        prepared.secret("by-token", BEARER, token=token),
        prepared.secret("by-certificate", CERTIFICATE, **issue(plane, "cert-minter")),
        prepared.secret("certificate", CERTIFICATE, **issue(plane, "cert-admin", "system:masters")),
    )
    with proxy:
        for name in ("by-token", "by-certificate"):
            # A busy API server may not issue the first token within the time limit of a request.
            kubectl = prepared.kubectl(name)
            wait_until(partial(_succeeds, kubectl), f"the first token of {name}")
        yield prepared


def _succeeds(kubectl: Kubectl) -> bool:
    return kubectl.run("auth", "whoami").returncode == 0


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("by-token", "system:serviceaccount:{namespace}:target"),
        ("by-certificate", "system:serviceaccount:{namespace}:target"),
        ("certificate", "cert-admin"),
    ],
)
def test_kubectl_has_the_identity_of_the_credential(kinds: Kinds, name: str, user: str) -> None:
    assert kinds.whoami(name) == user.format(namespace=kinds.namespace)
    kubectl = kinds.kubectl(name)
    kubectl("create", "configmap", f"made-{name}", "--from-literal=a=1", namespace=kinds.namespace)
    assert f"configmap/made-{name}" in kubectl("get", "configmaps", "-o", "name", namespace=kinds.namespace)


def test_a_watch_gets_changes(kinds: Kinds) -> None:
    for name in ("by-token", "certificate"):
        kubectl = kinds.kubectl(name)
        command = kubectl.command("get", "configmaps", "--watch", "-o", "name", namespace=kinds.namespace)
        output = kinds.proxy.home / f"watch-{name}"
        kinds.plane.kubectl("create", "configmap", f"there-before-{name}", namespace=kinds.namespace)
        with output.open("w") as out, subprocess.Popen(command, stdout=out, env=kubectl.environment) as watch:
            try:
                wait_until(output.read_text, "the first line of the watch")
                kinds.plane.kubectl("create", "configmap", f"seen-by-{name}", namespace=kinds.namespace)
                wait_until(partial(_has_text, output, f"seen-by-{name}"), "the new one")
            finally:
                watch.terminate()


def _has_text(output: Path, text: str) -> bool:
    return text in output.read_text()


def test_the_issuing_token_can_only_issue_tokens(kinds: Kinds) -> None:
    path = kinds.plane.write_kubeconfig("thief.kubeconfig", {"token": kinds.tokens["by-token"]})
    thief = Kubectl(kinds.plane.kubectl.program, path)
    assert thief.run("get", "namespaces").returncode != 0
    assert thief.run("create", "token", MINTER, namespace=kinds.namespace).returncode != 0


def test_one_token_is_issued_for_many_requests(kinds: Kinds) -> None:
    for _ in range(3):
        kinds.whoami("by-token")
    _, metrics = kinds.proxy.admin("/metrics")
    counts = re.findall(
        r'^connector_token_requests_total\{.*name="by-token".*result="ok"\} (\S+)', metrics, re.MULTILINE
    )
    assert counts == ["1.0"]


def test_no_issued_token_is_in_the_proxys_output(kinds: Kinds) -> None:
    """API servers sign tokens that begin with eyJ; callers' begin so too, and are not shown either."""
    assert kinds.whoami("by-token")
    printed = kinds.proxy.log.read_text(errors="replace") + kinds.proxy.admin("/metrics")[1]
    assert "eyJ" not in printed
    assert "PRIVATE KEY" not in printed
    assert not [each for each in kinds.proxy.home.rglob("*") if each.is_file() and _holds_minted(kinds, each)]


def _holds_minted(kinds: Kinds, path: Path) -> bool:
    """Return True if a token of the target account is in the file; its payload is base64 in a JWT's middle."""
    for token in re.findall(rb"eyJ[\w-]+\.(eyJ[\w-]+)\.", path.read_bytes()):
        payload = json.loads(base64.urlsafe_b64decode(token + b"=" * (-len(token) % 4)))
        if payload.get("sub") == f"system:serviceaccount:{kinds.namespace}:target":
            return True
    return False


def test_kubectl_prints_why_no_token_was_issued(kinds: Kinds) -> None:
    bad = "by-nobody"
    plane, namespace = kinds.plane, kinds.namespace
    plane.create_service_account(namespace, "powerless")
    token = plane.issue_token(namespace, "powerless")
    kinds.proxy.write("bad.yaml", kinds.connector(bad), kinds.secret(bad, BEARER, token=token))
    kubectl = kinds.kubectl(bad)
    printed = wait_until(
        lambda: text if "may not create" in (text := kubectl.run("get", "pods").stderr) else None, "the reason"
    )
    assert 'secrets "by-nobody" may not create serviceaccounts/token of "target"' in printed
    assert token not in printed


def test_a_recreated_account_causes_one_more_token_request(kinds: Kinds) -> None:
    """The last one here: tokens of the account of before are good no more."""
    plane, namespace = kinds.plane, kinds.namespace
    assert kinds.whoami("by-token")
    plane.kubectl("delete", "serviceaccount", "target", namespace=namespace)
    kubectl = kinds.kubectl("by-token")
    message = f'serviceaccounts "target" not found in namespace "{namespace}" of the target'
    wait_until(lambda: message in kubectl.run("get", "configmaps", namespace=namespace).stderr, "the reason")
    plane.create_service_account(namespace, "target")
    wait_until(lambda: kubectl.run("get", "configmaps", namespace=namespace).returncode == 0, "another token")
