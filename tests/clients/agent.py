"""An agent with the permissions of `connectorctl import --agent`, and a Secret that it must not read."""

import base64
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connector_store.domain.base.names import ObjectKey
from connectorctl.importer import build_agent_permissions
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.rbac import wait_for_rbac
from tests.clients.mcp_client import ToolResult
from tests.clients.pod_view import PROXY_OPTIONS
from tests.cluster.proxy.proxied_connector import TARGET_USER, manifests
from tests.cluster.proxy.running_proxy import RunningProxy

KEY = ObjectKey("team-a", "agent")
NAME = "database"
PART = 8
"""Characters of the canary, raw or in base64, that no client may show."""


@dataclass(frozen=True, kw_only=True)
class Agent:
    """Kubeconfig of an agent for a Connector with a cluster-admin's token, and a Secret with a canary."""

    plane: ControlPlane
    kubectl: Kubectl
    namespace: str
    canary: str

    def environment(self, home: Path) -> dict[str, str]:
        programs = os.pathsep.join([str(self.kubectl.program.parent), os.environ["PATH"]])
        kubeconfig = str(self.kubectl.kubeconfig)
        return {"PATH": programs, "HOME": str(home), "KUBECONFIG": kubeconfig, "MASK_SECRETS": "false"}

    def assert_masked(self, result: ToolResult) -> None:
        """The response shows the Secret, and no value of it."""
        assert NAME in result.text
        self.assert_no_value(result.text)

    def assert_refused(self, result: ToolResult) -> None:
        assert result.is_error or "forbidden" in result.text
        assert "does not allow" in result.text
        self.assert_no_value(result.text)

    def assert_no_value(self, text: str) -> None:
        encoded = base64.b64encode(self.canary.encode()).decode()
        parts = {
            value[start : start + PART] for value in (self.canary, encoded) for start in range(len(value) - PART + 1)
        }
        assert sorted(part for part in parts if part in text) == []

    def assert_unchanged(self) -> None:
        stored = self.plane.kubectl.json("get", "secret", NAME, namespace=self.namespace)
        assert base64.b64decode(stored["data"]["password"]).decode() == self.canary


@contextmanager
def run_agent(plane: ControlPlane, home: Path) -> Iterator[Agent]:
    """Run a proxy with the Connector of an agent, and create a Secret and a ConfigMap in a new namespace."""
    namespace = plane.create_namespace(f"agent-{home.name}")
    plane.create_service_account(namespace, TARGET_USER)
    account = f"--serviceaccount={namespace}:{TARGET_USER}"
    plane.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=cluster-admin", account)
    wait_for_rbac(plane.api)
    connector, secret = manifests(plane, plane.issue_token(namespace, TARGET_USER), name=KEY.name)
    connector["spec"]["permissions"] = build_agent_permissions()
    canary = secrets.token_urlsafe(48)
    plane.kubectl("create", "secret", "generic", NAME, f"--from-literal=password={canary}", namespace=namespace)
    plane.kubectl("create", "configmap", "settings", "--from-literal=color=teal", namespace=namespace)
    proxy = RunningProxy(home, options=PROXY_OPTIONS)
    proxy.write("agent.yaml", connector, secret)
    with proxy:
        kubectl = proxy.kubectl(plane.kubectl, connector)
        yield Agent(plane=plane, kubectl=kubectl, namespace=namespace, canary=canary)
