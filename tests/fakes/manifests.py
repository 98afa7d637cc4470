"""Manifests of a Connector and its Secret, written to a folder as a user would."""

import json
from pathlib import Path
from typing import Any

TARGET_TOKEN = "target-token-canary-7f3a"


def connector(name: str, address: str, *, namespace: str = "team-a", secret: str = "secret") -> dict[str, Any]:
    return {
        "apiVersion": "connectors.alauda.io/v1alpha1",
        "kind": "Connector",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "connectorClassName": "k8s",
            "address": address,
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": secret}},
        },
    }


def secret(name: str = "secret", *, namespace: str = "team-a", token: str = TARGET_TOKEN, ca: bytes) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "connectors.cpaas.io/bearer-token",
        "stringData": {"token": token, "ca.crt": ca.decode()},
    }


def write(folder: Path, *objects: dict[str, Any], file: str = "objects.yaml") -> None:
    """JSON is YAML; written at once, so that no half file is read."""
    draft = folder.parent / f".{file}"
    draft.write_text("\n---\n".join(json.dumps(each) for each in objects))
    draft.rename(folder / file)
