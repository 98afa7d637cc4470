"""The ClusterRoles that are there without a cluster: those that ship, and Kubernetes' own `view` and `edit` (1.37).

In a cluster all of them are objects. `deploy/rbac/lending.yaml` has the first ones, which `manifests` renders.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from connector_store.domain.base.names import API_GROUP
from connector_store.domain.permissions.rbac import ALL, RBAC_GROUP, RBAC_VERSION, ClusterRole, PolicyRule

READ_ONLY: Final = "connectors-read-only"
CREDENTIALS: Final = "connectors-credentials"
USER: Final = "connectors-user"
"""The right to use Connectors; `deploy/rbac/users.yaml`."""

_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")
_CHANGE: Final = ("create", "patch", "update")


def _rule(verbs: tuple[str, ...], group: str, resources: str) -> PolicyRule:
    """`resources` are words."""
    return PolicyRule(verbs=verbs, api_groups=tuple(group.split(",")), resources=tuple(resources.split()))


_PARTS: Final[Mapping[str, tuple[PolicyRule, ...]]] = {
    # A patch answers with the whole object; so does a deletion that waits, and one of a collection.
    "connectors-credentials-secrets": (
        _rule((*_READ, "delete", "deletecollection", "patch"), "", "secrets"),
        PolicyRule(verbs=("get",), non_resource_urls=("/logs", "/logs/*", "/debug/*")),
    ),
    "connectors-credentials-issuing": (
        _rule((ALL,), "", "serviceaccounts/token"),
        _rule(
            _CHANGE,
            "certificates.k8s.io",
            "certificatesigningrequests certificatesigningrequests/approval certificatesigningrequests/status "
            "podcertificaterequests podcertificaterequests/status clustertrustbundles",
        ),
        _rule(("approve", "attest", "sign"), "certificates.k8s.io", "signers"),
    ),
    "connectors-credentials-streams": (
        _rule((ALL,), ALL, "*/attach */exec */portforward */proxy"),
        _rule(("proxy",), ALL, ALL),
    ),
    "connectors-credentials-rights": (
        _rule((*_CHANGE, "bind", "escalate"), RBAC_GROUP, "clusterrolebindings clusterroles rolebindings roles"),
        _rule(("impersonate",), ALL, ALL),
        _rule(_CHANGE, "admissionregistration.k8s.io", ALL),
        _rule(_CHANGE, "apiregistration.k8s.io", "apiservices"),
    ),
    "connectors-credentials-workloads": (
        _rule(_CHANGE, "", "pods pods/ephemeralcontainers replicationcontrollers persistentvolumes"),
        _rule(("patch", "update"), "", "namespaces namespaces/finalize namespaces/status"),
        _rule(_CHANGE, "apps,extensions", "controllerrevisions daemonsets deployments replicasets statefulsets"),
        _rule(_CHANGE, "batch", "cronjobs jobs"),
    ),
}

SHIPPED: Final[Mapping[str, ClusterRole]] = MappingProxyType(
    {
        name: ClusterRole(name=name, rules=rules)
        for name, rules in {
            READ_ONLY: (
                _rule(_READ, ALL, ALL),
                PolicyRule(verbs=("get",), non_resource_urls=(ALL,)),
            ),
            CREDENTIALS: tuple(rule for rules in _PARTS.values() for rule in rules),
            **_PARTS,
        }.items()
    }
)
"""By name, as they lie in `deploy/rbac/lending.yaml`."""

_WORKLOADS: Final = (
    "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets "
    "statefulsets/scale"
)
_VIEW: Final = (
    _rule(
        _READ,
        "",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
        "replicationcontrollers/scale serviceaccounts services services/status",
    ),
    _rule(
        _READ,
        "",
        "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas "
        "resourcequotas/status",
    ),
    _rule(_READ, "", "namespaces"),
    _rule(_READ, ",events.k8s.io", "events"),
    _rule(_READ, "discovery.k8s.io", "endpointslices"),
    _rule(
        _READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets "
        "replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    _rule(_READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    _rule(_READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    _rule(
        _READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status "
        "networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    _rule(_READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    _rule(_READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    _rule(_READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
)
_EDIT: Final = (
    _rule(_READ, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    _rule(("impersonate",), "", "serviceaccounts"),
    _rule(_WRITE, "", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    _rule(("create",), "", "pods/eviction"),
    _rule(
        _WRITE,
        "",
        "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts "
        "services services/proxy",
    ),
    _rule(("create",), "", "serviceaccounts/token"),
    _rule(_WRITE, ",events.k8s.io", "events"),
    _rule(_WRITE, "apps", _WORKLOADS),
    _rule(_WRITE, "autoscaling", "horizontalpodautoscalers"),
    _rule(_WRITE, "batch", "cronjobs jobs"),
    _rule(
        _WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets "
        "replicasets/scale replicationcontrollers/scale",
    ),
    _rule(_WRITE, "policy", "poddisruptionbudgets"),
    _rule(_WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    _rule(
        ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"),
        "coordination.k8s.io",
        "leases",
    ),
    _rule(_WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
)

BUILTIN: Final[Mapping[str, ClusterRole]] = MappingProxyType(
    {
        **SHIPPED,
        USER: ClusterRole(name=USER, rules=(_rule(("use",), API_GROUP, "connectors/proxy"),)),
        "view": ClusterRole(name="view", rules=_VIEW),
        "edit": ClusterRole(name="edit", rules=(*_EDIT, *_VIEW)),
    }
)
"""By name, for where there is no cluster; a manifest of the same name takes the place of one."""


def manifest(role: ClusterRole) -> dict[str, Any]:
    """A ClusterRole as an object."""
    return {
        "apiVersion": RBAC_VERSION,
        "kind": "ClusterRole",
        "metadata": {"name": role.name},
        "rules": [rule_manifest(each) for each in role.rules],
    }


def rule_manifest(rule: PolicyRule) -> dict[str, list[str]]:
    """A rule as it is in an object; empty fields are left out."""
    fields = {
        "apiGroups": rule.api_groups,
        "resources": rule.resources,
        "resourceNames": rule.resource_names,
        "nonResourceURLs": rule.non_resource_urls,
        "verbs": rule.verbs,
    }
    return {name: list(values) for name, values in fields.items() if values}
