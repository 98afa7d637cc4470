"""Pod of an access request: whether it is the one that the request is for, and when to look again.

The controller sets the pod's UID in the request after this check. Without the UID, the request grants nothing.
"""

from collections.abc import Mapping
from typing import Any, Final

from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX
from connector_store.domain.grants.access_grant import PENDING_LIFETIME
from connector_store.domain.objects.access_objects import AccessRequest, PodReference

MIN_POD_INTERVAL: Final = 5.0
MAX_POD_INTERVAL: Final = 300.0
"""Limits on the seconds between two looks at the pod of a pending request. Between them, it is the request's age."""


def needs_pod(request: AccessRequest, *, is_decided: bool, now: float) -> bool:
    """Return True if the pod must be read: the request can still be approved, or its pod has no UID yet.

    The pod of an approved request is checked with its token, by each TokenReview. `now` is in Unix seconds.
    """
    is_open = request.pod is not None and now <= request.created_at + PENDING_LIFETIME
    return is_open and (not is_decided or not (request.pod and request.pod.uid))


def pod_uid(request: AccessRequest, pod: Mapping[str, Any] | None) -> str:
    """Return the UID of a raw pod, or an empty string if it is not the pod that the request is for.

    The pod must run as the subject of the request. If the CSI driver made the request, its node and UID must be those
    of the driver's call. A pod that is being deleted counts as deleted.
    """
    reference = request.pod
    metadata, spec = (pod or {}).get("metadata") or {}, (pod or {}).get("spec") or {}
    uid = str(metadata.get("uid") or "")
    if reference is None or metadata.get("deletionTimestamp"):
        return ""
    if f"{SERVICE_ACCOUNT_PREFIX}{reference.key.namespace}:{spec.get('serviceAccountName')}" != request.subject:
        return ""
    mount = reference.mount
    if mount is not None and (mount.node, mount.pod_uid) != (spec.get("nodeName"), uid):
        return ""
    return uid


def is_gone(reference: PodReference, pod: Mapping[str, Any] | None) -> bool:
    """Return True if the pod of a volume or of a request with a UID does not exist any more."""
    known_uid = reference.uid or (reference.mount.pod_uid if reference.mount is not None else "")
    return bool(known_uid) and (pod is None or (pod.get("metadata") or {}).get("uid") != known_uid)


def pod_interval(request: AccessRequest, now: float) -> float:
    """Return the seconds until the next look at the pod. `now` is in Unix seconds."""
    return min(max(now - request.created_at, MIN_POD_INTERVAL), MAX_POD_INTERVAL)
