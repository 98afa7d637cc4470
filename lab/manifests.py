"""A Connector and its Secret as a user writes them, for a target that tests and measurements run, and their folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def connector(name: str, address: str, *, namespace: str = "", secret: str = "", **spec: Any) -> dict[str, Any]:
    """With the token of the Secret `secret`, by default of its own name; `spec` goes into its spec, `auth` too."""
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
    """`ca` is PEM."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(name, namespace),
        "type": "connectors.cpaas.io/bearer-token",
        "stringData": {"token": token, "ca.crt": ca},
    }


def service_account_token_auth(account: str, *, secret: str, seconds: int | None = None) -> dict[str, Any]:
    """`auth` of a Connector whose Secret may mint tokens of `account` (NAMESPACE/NAME) only, each for `seconds`."""
    params: list[dict[str, Any]] = [{"name": "serviceAccount", "value": account}]
    if seconds is not None:
        params.append({"name": "expirationSeconds", "value": seconds})
    return {"name": "serviceAccountTokenAuth", "params": params, "secretRef": {"name": secret}}


def write_manifests(folder: Path, *objects: Mapping[str, Any], file: str = "objects.yaml") -> None:
    """Their file in a folder for the owner alone, made if it is not there; put there at once, so no half is read."""
    folder.mkdir(mode=0o700, exist_ok=True)
    draft = folder.parent / f".{file}"
    draft.touch(mode=0o600)
    # JSON is YAML, and is read faster.
    draft.write_text("\n---\n".join(json.dumps(each) for each in objects))
    draft.rename(folder / file)


def _metadata(name: str, namespace: str) -> dict[str, str]:
    return {"name": name, "namespace": namespace} if namespace else {"name": name}
