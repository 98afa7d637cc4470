"""Our definitions and roles on a control plane, and clients with the proxy's own identity."""

import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from lab import manifests
from lab.control_plane import ControlPlane
from lab.kubectl import write_kubeconfig
from lab.rbac import wait_for_rbac

DEPLOY: Final = Path(__file__).parents[3] / "deploy"
SYSTEM: Final = "connectors-system"
AUDIENCE: Final = "connectors-proxy"


def install_definitions(plane: ControlPlane) -> None:
    """deploy/crds, served when this returns."""
    plane.kubectl("apply", "-k", str(DEPLOY / "crds"))
    plane.kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")


def install_roles(plane: ControlPlane) -> None:
    """The system namespace and deploy/rbac, in force when this returns."""
    plane.kubectl("apply", "-f", str(DEPLOY / "system" / "namespace.yaml"))
    plane.kubectl("apply", "-k", str(DEPLOY / "rbac"))
    wait_for_rbac(plane.api)


def install(plane: ControlPlane) -> None:
    install_definitions(plane)
    install_roles(plane)


def proxy_kubeconfig(plane: ControlPlane, *, server: str | None = None, ca_pem: str | None = None) -> Path:
    """A kubeconfig with the token of the proxy's ServiceAccount; `server` may be a relay in front of the real one."""
    token = plane.issue_token(SYSTEM, "connectors-proxy")
    path = plane.folder / f"proxy-{time.monotonic_ns()}.kubeconfig"
    return write_kubeconfig(path, server=server or plane.url, ca_pem=ca_pem or plane.ca_pem, user={"token": token})


@asynccontextmanager
async def proxy_client(plane: ControlPlane, *, server: str | None = None) -> AsyncIterator[KubeClient]:
    path = proxy_kubeconfig(plane, server=server)
    async with KubeClient(await config_loader.load_configuration(kubeconfig=str(path))) as client:
        yield client


def secret(name: str, *, kind: str = BEARER_TOKEN_SECRET, **data: str) -> dict[str, Any]:
    """Keys of `data` have `_` for `.`."""
    encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": encoded}


def connector(
    name: str, *, address: str = "https://192.0.2.1:6443", secret: str = "k8s-secret", **spec: Any
) -> dict[str, Any]:
    return manifests.connector(name, address, secret=secret, **spec)


def grant_use(plane: ControlPlane, namespace: str, *, subject: dict[str, str], name: str = "use") -> None:
    """A RoleBinding of connectors-user in that namespace, in force when this returns."""
    bind(plane, namespace, "connectors-user", subject=subject, name=name)


def bind(plane: ControlPlane, namespace: str, cluster_role: str, *, subject: dict[str, str], name: str) -> None:
    """A RoleBinding of that ClusterRole, in force when this returns."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": role,
        "subjects": [subject],
    }
    plane.api.apply(binding, namespace=namespace)
    wait_for_rbac(plane.api)


def account_subject(namespace: str, name: str = "default") -> dict[str, str]:
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def group_subject(name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name}
