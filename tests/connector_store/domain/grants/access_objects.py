"""Access objects for tests: one good value of each kind, to change one field of."""

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import POD_UID, Identity
from connector_store.domain.objects.access_objects import (
    AccessApproval,
    AccessLock,
    AccessPolicy,
    AccessRequest,
    ApprovalRule,
)
from connector_store.domain.objects.models import Address, Connector
from connector_store.domain.permissions.permissions import Permissions, RoleEntry

NAMESPACE = "team-a"
PROD = ObjectKey(NAMESPACE, "prod")
JANE = Identity(user="jane", groups=("dev", "system:authenticated"))
CI = "system:serviceaccount:ci:builder"
NOW = 1_000_000.0
"""Time of the approval."""
EDIT = RoleEntry(cluster_role="edit", namespaces=frozenset({"web"}))

CONNECTOR = Connector(
    key=PROD,
    class_name="k8s",
    address=Address(host="h", port=6443),
    secret_name="token",
    permissions=Permissions(
        allow=(RoleEntry(cluster_role="view"),),
        on_request=(
            RoleEntry(cluster_role="edit", namespaces=frozenset({"web", "db"})),
            RoleEntry(cluster_role="logs"),
        ),
    ),
    uid="c-1",
    labels={"env": "prod"},
    created_at=NOW - 5000,
)
POLICY = AccessPolicy(key=ObjectKey(NAMESPACE, "on-call"), uid="p-1", approval=ApprovalRule(max_duration=7200.0))
REQUEST = AccessRequest(
    key=ObjectKey(NAMESPACE, "r"),
    uid="r-1",
    requester="jane",
    subject="jane",
    connector="prod",
    duration=3600.0,
    has_reason=True,
    created_at=NOW - 60,
)
APPROVAL = AccessApproval(
    key=ObjectKey(NAMESPACE, "a"),
    uid="a-1",
    request_name="r",
    request_uid="r-1",
    policy_name="on-call",
    policy_uid="p-1",
    by="joe",
    is_approved=True,
    created_at=NOW,
)
LOCK = AccessLock(key=ObjectKey(NAMESPACE, "l"), uid="l-1", reason="stolen laptop")


def in_pod(uid: str, user: str = CI) -> Identity:
    return Identity(user=user, extra={POD_UID: (uid,)})
