"""Stateless rules of an API server: merge patches, and the objects that a request for a collection selects."""

import copy
from typing import Any

from aiohttp import web

Json = dict[str, Any]


def merge_patch(old: Json, patch: Json) -> Json:
    """Apply a merge patch (RFC 7396)."""
    new = copy.deepcopy(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = merge_patch(new.get(key) or {}, value)
        else:
            new[key] = value
    return new


def as_requested(request: web.Request, obj: Json) -> Json:
    """Return the object, or only its metadata if the request asks for that."""
    if "as=PartialObjectMetadata" not in request.headers.get("Accept", ""):
        return obj
    return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": obj["metadata"]}


def is_collection(path: str) -> bool:
    parts = path.strip("/").split("/")
    segments = parts[2:] if parts[0] == "api" else parts[3:]
    return len(segments) == 1 or (len(segments) == 3 and segments[0] == "namespaces")


def is_selected(request: web.Request, path: str, obj: Json, kind: str = "") -> bool:
    collection = request.path
    base, _, plural = collection.rpartition("/")
    parent = path.rpartition("/")[0]
    if parent != collection and not (parent.startswith(f"{base}/namespaces/") and parent.endswith(f"/{plural}")):
        return False
    if kind == "BOOKMARK":
        return True
    for part in filter(None, request.query.get("fieldSelector", "").split(",")):
        name, _, value = part.partition("=")
        is_negated = name.endswith("!")
        name = name.removesuffix("!")
        actual: Any = obj
        for field in name.split("."):
            actual = actual.get(field, {})
        if (actual != value) is not is_negated:
            return False
    labels = obj["metadata"].get("labels") or {}
    selector = filter(None, request.query.get("labelSelector", "").split(","))
    return all(labels.get(name) == value for name, _, value in (part.partition("=") for part in selector))
