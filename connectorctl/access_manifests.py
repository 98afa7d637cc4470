"""Manifests of AccessRequests, AccessApprovals and AccessLocks that the commands create."""

import secrets
from collections.abc import Sequence
from typing import Any, Literal

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX
from connector_store.domain.objects.manifest import API_VERSION

MAX_PREFIX = 240
"""Characters of a name before its random part. Names have at most 253."""


def make_key(namespace: str, prefix: str) -> ObjectKey:
    """Return a new key: the prefix with a random part."""
    return ObjectKey(namespace, f"{prefix[:MAX_PREFIX].rstrip('-.')}-{secrets.token_hex(4)}")


def make_subject(user: str) -> dict[str, str]:
    """Return the subject of a user name: a ServiceAccount, or a User.

    >>> make_subject("system:serviceaccount:ci:robot")
    {'kind': 'ServiceAccount', 'namespace': 'ci', 'name': 'robot'}
    """
    if user.startswith(SERVICE_ACCOUNT_PREFIX):
        namespace, _, name = user.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        return {"kind": "ServiceAccount", "namespace": namespace, "name": name}
    return {"kind": "User", "name": user}


def make_request(
    connector: ObjectKey,
    *,
    requester: str,
    user: str | None,
    duration: int | None,
    reason: str,
    roles: Sequence[str],
    namespaces: Sequence[str],
) -> dict[str, Any]:
    """Return an AccessRequest for `user`, by default the requester. `duration` is in seconds."""
    spec: dict[str, Any] = {
        "requester": requester,
        "subject": make_subject(user or requester),
        "connectorRef": {"name": connector.name},
        "reason": reason,
    }
    if duration is not None:
        spec["duration"] = format_duration(duration)
    if roles:
        scope = {"namespaces": list(namespaces)} if namespaces else {}
        spec["permissions"] = {"allow": [{"clusterRole": role, **scope} for role in roles]}
    return _manifest("AccessRequest", make_key(connector.namespace, connector.name), spec)


def make_approval(
    request: dict[str, Any],
    policy: dict[str, Any],
    *,
    by: str,
    decision: Literal["Approved", "Denied"],
    comment: str | None,
) -> dict[str, Any]:
    """Return an AccessApproval of a request under a policy, with the UIDs of both objects."""
    spec = {
        "requestRef": _reference(request),
        "policyRef": _reference(policy),
        "by": by,
        "decision": decision,
        **({"comment": comment} if comment else {}),
    }
    metadata = request["metadata"]
    return _manifest("AccessApproval", make_key(metadata["namespace"], metadata["name"]), spec)


def make_lock(
    namespace: str,
    connector: str | None,
    *,
    users: Sequence[str],
    groups: Sequence[str],
    reason: str,
    until: str | None,
) -> dict[str, Any]:
    """Return an AccessLock for one Connector (None: all). Without users and groups, it is for all callers."""
    subjects = [*map(make_subject, users), *({"kind": "Group", "name": group} for group in groups)]
    spec = {
        **({"subjects": subjects} if subjects else {}),
        **({"connector": {"names": [connector]}} if connector is not None else {}),
        **({"until": until} if until is not None else {}),
        "reason": reason,
    }
    return _manifest("AccessLock", make_key(namespace, connector or "all"), spec)


def format_duration(seconds: int) -> str:
    """Write a duration as AccessRequests have it.

    >>> format_duration(5400), format_duration(3600), format_duration(90)
    ('1h30m', '1h', '1m30s')
    """
    hours, rest = divmod(seconds, 3600)
    parts = ((hours, "h"), (rest // 60, "m"), (rest % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count)


def _reference(raw: dict[str, Any]) -> dict[str, str]:
    return {"name": raw["metadata"]["name"], "uid": raw["metadata"]["uid"]}


def _manifest(kind: str, key: ObjectKey, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": spec,
    }
