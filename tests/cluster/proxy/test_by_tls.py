"""Stock kubectl with TLS to the proxy itself: through an https proxy-url, and by direct access with a path."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.kubectl import Kubectl
from tests.cluster.proxy.proxied_connector import ProxiedConnector


def by_proxy_url(proxied: ProxiedConnector, kubeconfig: dict[str, Any]) -> None:
    cluster = kubeconfig["clusters"][0]["cluster"]
    cluster["proxy-url"] = cluster["proxy-url"].replace("http://", "https://", 1)


def by_path(proxied: ProxiedConnector, kubeconfig: dict[str, Any]) -> None:
    cluster = kubeconfig["clusters"][0]["cluster"]
    del cluster["proxy-url"]
    cluster["server"] = f"https://127.0.0.1:{proxied.proxy.port}/connectors/team-a/k8s"
    kubeconfig["users"][0]["user"] = {"token": proxied.proxy.token(proxied.key)}


@pytest.fixture(params=[by_proxy_url, by_path], ids=["https proxy-url", "direct door"])
def kubectl(request: pytest.FixtureRequest, proxied: ProxiedConnector, tmp_path: Path) -> Kubectl:
    config = yaml.safe_load(proxied.kubectl.kubeconfig.read_text())
    request.param(proxied, config)
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    return Kubectl(proxied.kubectl.program, tmp_path / "kubeconfig")


def test_kubectl_works_as_the_target_account(kubectl: Kubectl, proxied: ProxiedConnector) -> None:
    assert kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") == proxied.user
    for number in range(3):
        kubectl("create", "configmap", f"by-tls-{number}", namespace=proxied.namespace)
    names = kubectl("get", "configmaps", "-o", "name", namespace=proxied.namespace)
    assert names.count("by-tls-") == 3
    for number in range(3):
        kubectl("delete", "configmap", f"by-tls-{number}", namespace=proxied.namespace)
