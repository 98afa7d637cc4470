"""Connector of a fake API server, with the address that the controller publishes."""

import base64
from typing import Any

from connector_store.domain.base.names import ObjectKey
from connectorctl.option_values import CallerOptions
from lab.certificates import make_ca

KEY = ObjectKey("a", "k8s")
ACCOUNT = ObjectKey("ci", "robot")
CALLER_OPTIONS = CallerOptions(service_account=ACCOUNT)
CA = make_ca()
PUBLISHED = {"url": "http://c-k8s.a.svc.cluster.local", "CACerts": base64.b64encode(CA.pem).decode(), "audience": "own"}


def connector(http_address: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": KEY.name, "namespace": KEY.namespace},
        "spec": {"connectorClassName": "k8s", "address": "https://192.0.2.1:6443", **spec},
        "status": {"proxy": {"httpAddress": http_address}} if http_address else {},
    }
