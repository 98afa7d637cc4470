"""Frozen values of the parsed objects that allow or lock the use of Connectors. `manifest_access` creates them.

They have no free text of requests and approvals, so 5,000 of them are small. Times are Unix seconds of the API server's
clock, with which it writes creationTimestamp.
"""

from dataclasses import dataclass, field
from typing import Final

from connector_store.domain.base.label_selector import EVERYTHING, Labels, ObjectSelector
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.permissions.permissions import RoleEntry

DEFAULT_MAX_DURATION: Final = 8 * 3600.0
"""Seconds; the default of `spec.approval.maxDuration` of an AccessPolicy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSelector:
    """ServiceAccounts by name and namespace. `names` is empty for every name."""

    names: frozenset[str] = frozenset()
    namespaces: ObjectSelector = EVERYTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRule:
    """`spec.approval` of an AccessPolicy. `max_duration` is in seconds."""

    required: int = 1
    max_duration: float = DEFAULT_MAX_DURATION
    requires_reason: bool = False
    service_accounts_may_approve: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCheck:
    """Check that an ApprovalTask of the pod's PipelineRun is approved.

    `approvers` are user names, and names of groups after `group:`. If empty, who may approve has the verb approve on
    the policy.
    """

    approvers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """An AccessPolicy. It is for Connectors of its own namespace.

    `approval` is None if the policy judges no requests. With `problems`, the policy grants nothing.
    """

    key: ObjectKey
    uid: str
    connector: ObjectSelector = EVERYTHING
    accounts: tuple[AccountSelector, ...] = ()
    """ServiceAccounts that may use the Connectors without a request."""
    approval: ApprovalRule | None = None
    task_check: TaskCheck | None = None
    """With it, only approvals of ApprovalTasks count. Without it, only those of users."""
    problems: tuple[str, ...] = ()
    """Fields that are set but not supported, or cannot be parsed."""
    is_deleted: bool = False
    """The object has a deletionTimestamp."""


@dataclass(frozen=True, slots=True)
class PodMount:
    """Pod of a volume, as the CSI driver of its node knows it. The controller compares it with the pod."""

    node: str
    pod_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReference:
    """Pod that a request is for. `uid` is empty until the controller has set it."""

    key: ObjectKey
    uid: str = ""
    mount: PodMount | None = None
    """Pod as the CSI driver knows it, if the request is for a volume."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """An AccessRequest. `requester` and `subject` are user names. With a `problem`, the request grants nothing."""

    key: ObjectKey
    uid: str
    requester: str = ""
    subject: str = ""
    connector: str = ""
    """Name of the Connector in the namespace of the request."""
    pod: PodReference | None = None
    duration: float | None = None
    """Seconds, or None for as long as the policy allows."""
    has_reason: bool = False
    roles: tuple[RoleEntry, ...] = ()
    """Roles to add to those that the Connector allows."""
    created_at: float = 0.0
    problem: str = ""
    is_deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessApproval:
    """An AccessApproval. `by` is the user name of the approver."""

    key: ObjectKey
    uid: str
    request_name: str = ""
    request_uid: str = ""
    policy_name: str = ""
    policy_uid: str = ""
    by: str = ""
    is_approved: bool = False
    """False for the decision Denied."""
    is_from_task: bool = False
    """The controller created it, because an ApprovalTask was approved."""
    created_at: float = 0.0
    is_deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """Labels of a namespace, for the policies that select ServiceAccounts by them."""

    name: str
    labels: Labels = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLock:
    """An AccessLock. A lock that is being deleted still holds.

    `users` and `groups` are both empty if all callers are locked out. `connector`, `secret_names` and `addresses` must
    all match, if they are set.
    """

    key: ObjectKey
    uid: str = ""
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    connector: ObjectSelector = EVERYTHING
    secret_names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    """Addresses of targets as `HOST:PORT`."""
    until: float | None = None
    reason: str = ""
    problem: str = ""
    """Why the object cannot be parsed. Such a lock holds for all callers and Connectors of its namespace."""


AccessObject = AccessPolicy | AccessRequest | AccessApproval | AccessLock | Namespace
ACCESS_KINDS: Final = (AccessPolicy, AccessRequest, AccessApproval, AccessLock, Namespace)
"""Kinds of the objects that allow or lock the use of Connectors, with the labels of namespaces."""
