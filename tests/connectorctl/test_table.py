"""The table of `connectorctl status`."""

from pathlib import Path

from connector_store.domain.settings import Settings
from connector_store.store import Store
from connectorctl.example import MANIFESTS
from connectorctl.folder import load
from connectorctl.table import render_status

OTHERS = """
---
apiVersion: connectors.alauda.io/v1alpha1
kind: ConnectorClass
metadata: {name: git}
spec: {auth: {types: [{name: basic, secretType: kubernetes.io/basic-auth}]}}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: repository, namespace: a}
spec: {connectorClassName: git, address: "https://git.example"}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: broken, namespace: b}
spec: {connectorClassName: k8s, address: "ftp://x"}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: alone, namespace: b}
spec: {connectorClassName: k8s, address: "https://x", auth: {name: bearerTokenAuth, secretRef: {name: absent}}}
"""


def rows(path: Path, namespace: str | None = None) -> list[list[str]]:
    (path / "all.yaml").write_text(MANIFESTS + OTHERS)
    return [line.split(maxsplit=4) for line in render_status(load(path, Settings()), namespace).splitlines()]


def test_each_connector_has_a_line_in_order_of_name(tmp_path: Path) -> None:
    head, *body = rows(tmp_path)
    assert head == ["CONNECTOR", "ADDRESS", "USABLE", "REASON", "MESSAGE"]
    assert [line[:4] for line in body] == [
        ["a/repository", "https://git.example:443", "no", "NotOurs"],
        ["b/alone", "https://x:443", "no", "SecretNotFound"],
        ["b/broken", "<invalid>", "no", "AddressInvalid"],
        ["default/k8s-connector", "https://k8s.example:6443", "yes"],
    ]
    assert '"absent" not found' in body[1][4]


def test_a_namespace_limits_it(tmp_path: Path) -> None:
    assert [line[0] for line in rows(tmp_path, "b")[1:]] == ["b/alone", "b/broken"]


def test_an_empty_store_has_a_heading() -> None:
    assert render_status(Store(), None).split() == ["CONNECTOR", "ADDRESS", "USABLE", "REASON", "MESSAGE"]
