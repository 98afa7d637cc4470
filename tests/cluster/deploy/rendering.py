"""What kustomize and Helm make of the manifests, as objects by their identity."""

from typing import Any

import yaml

Key = tuple[str, str, str]
"""Kind, namespace and name."""
Objects = dict[Key, dict[str, Any]]


def objects_in(text: str) -> Objects:
    """Of a stream of YAML documents; two of one identity are an AssertionError."""
    documents = [each for each in yaml.safe_load_all(text) if each]
    objects = {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in documents
    }
    assert len(objects) == len(documents)
    return objects
