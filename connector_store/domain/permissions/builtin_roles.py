"""ClusterRoles that exist without a cluster: those that ship, and Kubernetes' own `view` and `edit` (1.37).

In a cluster, all of them are objects. `deploy/rbac/lending.yaml` contains the ones that ship, as `role_manifest`
writes them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from connector_store.domain.base.names import API_GROUP
from connector_store.domain.permissions.rbac import RBAC_GROUP, RBAC_VERSION, WILDCARD, ClusterRole, PolicyRule

READ_ONLY_ROLE: Final = "connectors-permissions-read-only"
FORMER_READ_ONLY_ROLE: Final = "connectors-read-only"
"""Name of `READ_ONLY_ROLE` in earlier releases. The next release does not have it."""
CREDENTIALS_ROLE: Final = "connectors-credentials"
AGENT_ROLE: Final = "connectors-agent"
"""Role that allows reading Secrets, to be masked. A Connector that allows it without a mask is not served."""
USER_ROLE: Final = "connectors-user"
"""Role with the right to use Connectors, the same as in `deploy/rbac/users.yaml`."""

_READ_VERBS: Final = ("get", "list", "watch")
_WRITE_VERBS: Final = ("create", "delete", "deletecollection", "patch", "update")
_CHANGE_VERBS: Final = ("create", "patch", "update")


def _rule(verbs: tuple[str, ...], group: str, resources: str) -> PolicyRule:
    """Create a rule. `group` is separated by commas, `resources` by spaces."""
    return PolicyRule(verbs=verbs, api_groups=tuple(group.split(",")), resources=tuple(resources.split()))


_CREDENTIALS_PARTS: Final[Mapping[str, tuple[PolicyRule, ...]]] = {
    # The response to a patch contains the whole object, as does that to a pending deletion or to a deletecollection.
    "connectors-credentials-secrets": (
        _rule((*_READ_VERBS, "delete", "deletecollection", "patch"), "", "secrets"),
        PolicyRule(verbs=("get",), non_resource_urls=("/logs", "/logs/*", "/debug/*")),
    ),
    "connectors-credentials-issuing": (
        _rule((WILDCARD,), "", "serviceaccounts/token"),
        _rule(
            _CHANGE_VERBS,
            "certificates.k8s.io",
            "certificatesigningrequests certificatesigningrequests/approval certificatesigningrequests/status "
            "podcertificaterequests podcertificaterequests/status clustertrustbundles",
        ),
        _rule(("approve", "attest", "sign"), "certificates.k8s.io", "signers"),
    ),
    "connectors-credentials-streams": (
        _rule((WILDCARD,), WILDCARD, "*/attach */exec */portforward */proxy"),
        _rule(("proxy",), WILDCARD, WILDCARD),
    ),
    "connectors-credentials-rights": (
        _rule((*_CHANGE_VERBS, "bind", "escalate"), RBAC_GROUP, "clusterrolebindings clusterroles rolebindings roles"),
        _rule(("impersonate",), WILDCARD, WILDCARD),
        _rule(_CHANGE_VERBS, "admissionregistration.k8s.io", WILDCARD),
        _rule(_CHANGE_VERBS, "apiregistration.k8s.io", "apiservices"),
        # Amazon EKS: users and groups of IAM roles. Requests without a name can be for another ConfigMap, so `create`
        # is not in the rule. `deletecollection` is, because a deleted ConfigMap could be created again.
        PolicyRule(
            verbs=("delete", "deletecollection", "patch", "update"),
            api_groups=("",),
            resources=("configmaps",),
            resource_names=("aws-auth",),
        ),
    ),
    "connectors-credentials-workloads": (
        _rule(_CHANGE_VERBS, "", "pods pods/ephemeralcontainers replicationcontrollers persistentvolumes"),
        _rule(("patch", "update"), "", "namespaces namespaces/finalize namespaces/status"),
        _rule(_CHANGE_VERBS, "apps,extensions", "controllerrevisions daemonsets deployments replicasets statefulsets"),
        _rule(_CHANGE_VERBS, "batch", "cronjobs jobs"),
    ),
    "connectors-credentials-openshift": (
        _rule(_READ_VERBS, "image.openshift.io", "imagestreams/secrets"),
        _rule(
            (WILDCARD,),
            "oauth.openshift.io",
            "oauthaccesstokens oauthauthorizetokens oauthclientauthorizations oauthclients useroauthaccesstokens",
        ),
        # A machine configuration contains the pull secret of the cluster, and runs programs on nodes.
        _rule((WILDCARD,), "machineconfiguration.openshift.io", "machineconfigs"),
        _rule(_CHANGE_VERBS, "authorization.openshift.io", "clusterrolebindings clusterroles rolebindings roles"),
        _rule(_CHANGE_VERBS, "user.openshift.io", "groups identities useridentitymappings users"),
        _rule(_CHANGE_VERBS, "security.openshift.io", "securitycontextconstraints"),
        _rule(_CHANGE_VERBS, "config.openshift.io", "apiservers authentications oauths"),
        _rule(("patch", "update"), "project.openshift.io", "projects"),
        _rule(
            _CHANGE_VERBS,
            "build.openshift.io",
            "buildconfigs buildconfigs/instantiate buildconfigs/instantiatebinary buildconfigs/webhooks builds "
            "builds/clone builds/details",
        ),
        _rule(
            _CHANGE_VERBS,
            "apps.openshift.io",
            "deploymentconfigs deploymentconfigs/instantiate deploymentconfigs/rollback",
        ),
        _rule(_CHANGE_VERBS, "template.openshift.io", "templateinstances"),
    ),
}

_READ_ONLY_RULES: Final = (
    _rule(_READ_VERBS, WILDCARD, WILDCARD),
    PolicyRule(verbs=("get",), non_resource_urls=(WILDCARD,)),
)

_WORKLOADS: Final = (
    "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets "
    "statefulsets/scale"
)
_VIEW_RULES: Final = (
    _rule(
        _READ_VERBS,
        "",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
        "replicationcontrollers/scale serviceaccounts services services/status",
    ),
    _rule(
        _READ_VERBS,
        "",
        "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas "
        "resourcequotas/status",
    ),
    _rule(_READ_VERBS, "", "namespaces"),
    _rule(_READ_VERBS, ",events.k8s.io", "events"),
    _rule(_READ_VERBS, "discovery.k8s.io", "endpointslices"),
    _rule(
        _READ_VERBS,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets "
        "replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    _rule(_READ_VERBS, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    _rule(_READ_VERBS, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    _rule(
        _READ_VERBS,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status "
        "networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    _rule(_READ_VERBS, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    _rule(_READ_VERBS, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    _rule(_READ_VERBS, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
)
_EDIT_RULES: Final = (
    _rule(_READ_VERBS, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    _rule(("impersonate",), "", "serviceaccounts"),
    _rule(_WRITE_VERBS, "", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    _rule(("create",), "", "pods/eviction"),
    _rule(
        _WRITE_VERBS,
        "",
        "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts "
        "services services/proxy",
    ),
    _rule(("create",), "", "serviceaccounts/token"),
    _rule(_WRITE_VERBS, ",events.k8s.io", "events"),
    _rule(_WRITE_VERBS, "apps", _WORKLOADS),
    _rule(_WRITE_VERBS, "autoscaling", "horizontalpodautoscalers"),
    _rule(_WRITE_VERBS, "batch", "cronjobs jobs"),
    _rule(
        _WRITE_VERBS,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets "
        "replicasets/scale replicationcontrollers/scale",
    ),
    _rule(_WRITE_VERBS, "policy", "poddisruptionbudgets"),
    _rule(_WRITE_VERBS, "networking.k8s.io", "ingresses networkpolicies"),
    _rule(
        ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"),
        "coordination.k8s.io",
        "leases",
    ),
    _rule(_WRITE_VERBS, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
)

SHIPPED_ROLES: Final[Mapping[str, ClusterRole]] = MappingProxyType(
    {
        name: ClusterRole(name=name, rules=rules)
        for name, rules in {
            READ_ONLY_ROLE: _READ_ONLY_RULES,
            FORMER_READ_ONLY_ROLE: _READ_ONLY_RULES,
            CREDENTIALS_ROLE: tuple(rule for rules in _CREDENTIALS_PARTS.values() for rule in rules),
            **_CREDENTIALS_PARTS,
            AGENT_ROLE: (_rule(_READ_VERBS, "", "secrets"), *_VIEW_RULES),
        }.items()
    }
)
"""Roles of `deploy/rbac/lending.yaml`, by name."""

BUILTIN_ROLES: Final[Mapping[str, ClusterRole]] = MappingProxyType(
    {
        **SHIPPED_ROLES,
        USER_ROLE: ClusterRole(name=USER_ROLE, rules=(_rule(("use",), API_GROUP, "connectors/proxy"),)),
        "view": ClusterRole(name="view", rules=_VIEW_RULES),
        "edit": ClusterRole(name="edit", rules=(*_EDIT_RULES, *_VIEW_RULES)),
    }
)
"""Roles without a cluster, by name. A manifest with the same name replaces one."""


def role_manifest(role: ClusterRole) -> dict[str, Any]:
    """Return the manifest of a ClusterRole."""
    return {
        "apiVersion": RBAC_VERSION,
        "kind": "ClusterRole",
        "metadata": {"name": role.name},
        "rules": [rule_manifest(rule) for rule in role.rules],
    }


def rule_manifest(rule: PolicyRule) -> dict[str, list[str]]:
    """Return a rule as in a manifest, without empty fields."""
    fields = {
        "apiGroups": rule.api_groups,
        "resources": rule.resources,
        "resourceNames": rule.resource_names,
        "nonResourceURLs": rule.non_resource_urls,
        "verbs": rule.verbs,
    }
    return {name: list(values) for name, values in fields.items() if values}
