"""Resources that the programs use, and their paths.

>>> CONNECTORS.path("team-a", "k8s", "status")
'/apis/connectors.alauda.io/v1alpha1/namespaces/team-a/connectors/k8s/status'
>>> SECRETS.path()
'/api/v1/secrets'
"""

from typing import Final, NamedTuple
from urllib.parse import quote

from connector_store.domain.base.names import CA_LABEL


class Resource(NamedTuple):
    """Kind with its group (empty for core), version and plural."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """`GROUP/VERSION`, or `v1`, as in manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the path of the collection, or of one object.

        Without a namespace, it is the path for all namespaces, or for a cluster-scoped resource.
        """
        parts = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(each, safe="") for each in (name, subresource) if each is not None]
        return "/".join(parts)

    def __str__(self) -> str:
        """Return kubectl's name for the resource: `connectors.connectors.alauda.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


CA_SECRETS: Final = f"{CA_LABEL}=true"
"""Label selector of the Secrets with CAs for every Connector, in the system namespace."""

GROUP: Final = "connectors.alauda.io"
CONNECTORS: Final = Resource(GROUP, "v1alpha1", "connectors", "Connector")
CONNECTOR_CLASSES: Final = Resource(GROUP, "v1alpha1", "connectorclasses", "ConnectorClass")
ACCESS_POLICIES: Final = Resource(GROUP, "v1alpha1", "accesspolicies", "AccessPolicy")
ACCESS_REQUESTS: Final = Resource(GROUP, "v1alpha1", "accessrequests", "AccessRequest")
ACCESS_APPROVALS: Final = Resource(GROUP, "v1alpha1", "accessapprovals", "AccessApproval")
ACCESS_LOCKS: Final = Resource(GROUP, "v1alpha1", "accesslocks", "AccessLock")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace")
SERVICES: Final = Resource("", "v1", "services", "Service")
PODS: Final = Resource("", "v1", "pods", "Pod")
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CLUSTER_ROLES: Final = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole")
CLUSTER_ROLE_BINDINGS: Final = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding")
ROLES: Final = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS: Final = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
VALIDATING_ADMISSION_POLICIES: Final = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy"
)
VALIDATING_ADMISSION_POLICY_BINDINGS: Final = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"
)
TOKEN_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview")
SUBJECT_ACCESS_REVIEWS: Final = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview")
SELF_SUBJECT_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview")
TASK_RUNS: Final = Resource("tekton.dev", "v1", "taskruns", "TaskRun")
PIPELINE_RUNS: Final = Resource("tekton.dev", "v1", "pipelineruns", "PipelineRun")
CUSTOM_RUNS: Final = Resource("tekton.dev", "v1beta1", "customruns", "CustomRun")
APPROVAL_TASKS: Final = Resource("openshift-pipelines.org", "v1alpha1", "approvaltasks", "ApprovalTask")


def token_request(namespace: str, name: str, audience: str, ttl: int) -> tuple[str, dict[str, object]]:
    """Return path and body of a TokenRequest for a ServiceAccount. `ttl` is in seconds, at least 600."""
    body: dict[str, object] = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": [audience], "expirationSeconds": ttl},
    }
    return SERVICE_ACCOUNTS.path(namespace, name, "token"), body
