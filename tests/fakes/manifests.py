"""Connector and Secret of most tests, written to a folder as a user would do it."""

from typing import Any

from lab import manifests

TARGET_TOKEN = "target-token-canary-7f3a"
write = manifests.write_manifests


def connector(name: str, address: str, *, namespace: str = "team-a", secret: str = "secret") -> dict[str, Any]:
    return manifests.connector(name, address, namespace=namespace, secret=secret)


def secret(name: str = "secret", *, namespace: str = "team-a", token: str = TARGET_TOKEN, ca: bytes) -> dict[str, Any]:
    return manifests.secret(name, namespace=namespace, token=token, ca=ca.decode())
