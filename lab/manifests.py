"""Manifests of a Connector and its Secret for tests and measurements, and the folder that contains them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def connector(name: str, address: str, *, namespace: str = "", secret: str = "", **spec: Any) -> dict[str, Any]:
    """Return a Connector that uses the token of the Secret `secret`, by default of the same name.

    `spec` overrides fields of its spec, such as `auth`.
    """
    return {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "Connector",
        "metadata": _metadata(name, namespace),
        "spec": {
            "connectorClassName": "k8s",
            "address": address,
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": secret or name}},
            **spec,
        },
    }


def secret(name: str, *, namespace: str = "", token: str, ca: str) -> dict[str, Any]:
    """Return a Secret with a token and a CA in PEM."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(name, namespace),
        "type": "connectors.cpaas.io/bearer-token",
        "stringData": {"token": token, "ca.crt": ca},
    }


def service_account_token_auth(account: str, *, secret: str, seconds: int | None = None) -> dict[str, Any]:
    """Return the `auth` of a Connector that requests tokens of `account` (NAMESPACE/NAME) for `seconds`."""
    params: list[dict[str, Any]] = [{"name": "serviceAccount", "value": account}]
    if seconds is not None:
        params.append({"name": "expirationSeconds", "value": seconds})
    return {"name": "serviceAccountTokenAuth", "params": params, "secretRef": {"name": secret}}


def write_manifests(folder: Path, *objects: Mapping[str, Any], file: str = "objects.yaml") -> None:
    """Write the manifests to a file of a folder with mode 0700. A rename puts the file there, so it is always whole."""
    folder.mkdir(mode=0o700, exist_ok=True)
    draft = folder.parent / f".{file}"
    draft.touch(mode=0o600)
    # JSON is valid YAML, and faster to read.
    draft.write_text("\n---\n".join(json.dumps(manifest) for manifest in objects))
    draft.rename(folder / file)


def _metadata(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace} if namespace else {"name": name}
