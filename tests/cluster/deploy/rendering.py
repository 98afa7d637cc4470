"""The manifests that kustomize and Helm render, as objects by their identity."""

from typing import Any

import yaml

Key = tuple[str, str, str]
"""Kind, namespace and name."""
Objects = dict[Key, dict[str, Any]]


def objects_in(text: str) -> Objects:
    """Parse a stream of YAML documents; two objects of one identity are an AssertionError."""
    documents = [each for each in yaml.safe_load_all(text) if each]
    objects = {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in documents
    }
    assert len(objects) == len(documents)
    return objects


ROLLOUT = "connectors-config-rollout"
SETTINGS = "connectors.alauda.io/settings"


def without_rollout(objects: Objects) -> Objects:
    """Without what replaces pods when the settings change: names with a hash here, a checksum there."""
    remaining = {key: each for key, each in objects.items() if not key[2].startswith(ROLLOUT)}
    for key, each in remaining.items():
        if key[0] in ("Deployment", "DaemonSet"):
            assert each["spec"]["template"]["metadata"]["annotations"].pop(SETTINGS)
    return remaining
