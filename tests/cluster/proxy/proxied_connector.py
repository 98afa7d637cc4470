"""A proxy, its Connector and who uses it, together."""

from dataclasses import dataclass
from typing import Any

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.manifests import connector, secret
from lab.rbac import wait_for_rbac
from tests.cluster.proxy.running_proxy import RunningProxy

TARGET_USER = "target"


@dataclass(frozen=True, kw_only=True)
class ProxiedConnector:
    """A Connector for the API server with the token of ServiceAccount `user`, and kubectl with and without it."""

    plane: ControlPlane
    proxy: RunningProxy
    namespace: str
    user: str
    token: str
    connector: dict[str, Any]
    kubectl: Kubectl

    @property
    def key(self) -> ObjectKey:
        return ObjectKey("team-a", "k8s")


def manifests(plane: ControlPlane, token: str, *, name: str = "k8s") -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        connector(name, plane.url, namespace="team-a"),
        secret(name, namespace="team-a", token=token, ca=plane.ca_pem),
    )


def target_token(plane: ControlPlane, namespace: str) -> str:
    """A ServiceAccount that may do everything in `namespace` and look around, and its token, whose end is not near."""
    plane.create_service_account(namespace, TARGET_USER)
    account = f"{namespace}:{TARGET_USER}"
    plane.kubectl("create", "rolebinding", TARGET_USER, "--clusterrole=cluster-admin", f"--serviceaccount={account}",
                  namespace=namespace)  # fmt: skip
    plane.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=view", f"--serviceaccount={account}")
    wait_for_rbac(plane.api)
    return plane.issue_token(namespace, TARGET_USER, lifetime=7 * 24 * 3600)


def cluster_admin_token(plane: ControlPlane, namespace: str) -> str:
    """Return the token of a ServiceAccount in `namespace` that may do everything."""
    plane.create_service_account(namespace, TARGET_USER)
    account = f"--serviceaccount={namespace}:{TARGET_USER}"
    plane.kubectl("create", "clusterrolebinding", f"{namespace}-admin", "--clusterrole=cluster-admin", account)
    wait_for_rbac(plane.api)
    return plane.issue_token(namespace, TARGET_USER)
