"""Waiting for the API server's authorizer, which sees a change of a role or a binding a moment after its response.

The authorizer gets the changes of each kind in their order. So it has seen all earlier ones when it has seen those of
the probe's own objects.
"""

import uuid
from functools import partial
from typing import Any, Final

from lab.admin_api import AdminApi
from lab.waiting import wait_until

PROBE: Final = "lab-rbac-probe"
"""Name of the roles and the bindings. They stay, and give rights only to users that do not exist."""
NAMESPACE: Final = "kube-public"
_GROUP: Final = "rbac.authorization.k8s.io"
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


def wait_for_rbac(api: AdminApi) -> None:
    """Wait until all changes of roles and bindings so far are in force."""
    verb = f"probe-{uuid.uuid4()}"
    for scope, namespace in (("Cluster", ""), ("", NAMESPACE)):
        user = f"{verb}{scope}"
        rule = {"apiGroups": [PROBE], "resources": [PROBE], "verbs": [verb]}
        reference = {"apiGroup": _GROUP, "kind": f"{scope}Role", "name": PROBE}
        subject = {"apiGroup": _GROUP, "kind": "User", "name": user}
        api.apply(
            _object(f"{scope}Role", rules=[rule]),
            _object(f"{scope}RoleBinding", roleRef=reference, subjects=[subject]),
            namespace=namespace,
        )
        attributes = {"group": PROBE, "resource": PROBE, "verb": verb, "namespace": namespace}
        review = {"spec": {"user": user, "resourceAttributes": attributes}}
        wait_until(partial(_is_allowed, api, review), "the rights of the probe")


def _is_allowed(api: AdminApi, review: dict[str, Any]) -> bool:
    return bool(api.call("POST", _REVIEWS, review)["status"]["allowed"])


def _object(kind: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": {"name": PROBE}, **fields}
