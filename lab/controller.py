"""A control plane with the CRDs and the role of the controller, and controller processes that have only this role."""

import base64
import itertools
import math
import os
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import manifests
from lab.control_plane import ControlPlane
from lab.ports import Port
from lab.process import Process
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until

ROOT = Path(__file__).parents[1]
SYSTEM_NAMESPACE = "connectors-system"
VERSION = "connectors.alauda.io/v1alpha1"
API_PATH = f"/apis/{VERSION}"

SETTINGS = {
    "CONNECTORS_PROBE_INTERVAL": "1",
    "CONNECTORS_CA_OVERLAP": "15",
    "CONNECTORS_CA_SECRET": "connectors-proxy-ca",
    "CONNECTORS_TARGETS_DENY": "127.9.0.0/16",
}

_NUMBER = itertools.count(1)


class Controller:
    """One controller process."""

    def __init__(self, plane: ControlPlane, environment: Mapping[str, str] = {}) -> None:
        number = next(_NUMBER)
        token = plane.issue_token(SYSTEM_NAMESPACE, "connectors-controller")
        kubeconfig = plane.write_kubeconfig(f"controller-{number}.kubeconfig", {"token": token})
        self._port = Port()
        self.admin = f"http://127.0.0.1:{self._port.number}"
        command = [sys.executable, "-m", "connector_controller", "--kubeconfig", os.fspath(kubeconfig)]
        self.process = Process(
            [*command, "--admin", f"127.0.0.1:{self._port.number}"],
            log=plane.folder / f"controller-{number}.log",
            environment={"PYTHONPATH": os.fspath(ROOT), "PYTHONDEVMODE": "1", **SETTINGS, **environment},
        )

    def start(self) -> "Controller":
        self.process.start()
        return self

    def close(self) -> None:
        self.process.kill()
        self._port.release()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.admin + path, timeout=60) as response:  # noqa: S310 - our own http URL
            text: str = response.read().decode()
            return text

    def is_serving(self, path: str = "/healthz") -> bool:
        try:
            return self.get(path) == "ok\n"
        except OSError:
            return False

    def read_metric(self, name: str) -> float:
        """Return the value of a metric, 0 if the controller does not serve, or NaN without the metric.

        Some metrics are there only while the controller leads.
        """
        if not self.is_serving():
            return 0.0
        lines = self.get("/metrics").splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(name + " ")), math.nan)

    @property
    def log(self) -> str:
        return self.process.log.read_text()


class ConnectorCluster:
    """A control plane with the CRDs, in which tests create and read objects. Each test uses its own namespace."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.api = plane.api
        plane.kubectl("apply", "-f", str(ROOT / "deploy/system/namespace.yaml"))
        plane.kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/crds"))
        plane.kubectl("apply", "-f", str(ROOT / "deploy/system/controller-rbac.yaml"))
        plane.kubectl("apply", "-f", str(ROOT / "deploy/system/proxy-service.yaml"))
        plane.kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
        wait_for_rbac(plane.api)

    def install_access_policies(self) -> None:
        """Install the admission policies of access requests and the roles of users, in force when this returns.

        A controller that starts before this proves it a minute later.
        """
        for file in ("deploy/policy/access.yaml", "deploy/rbac/users.yaml"):
            self.plane.kubectl("apply", "-f", str(ROOT / file))
        wait_until(self._refuses_forgeries, "the admission policies")

    def _refuses_forgeries(self) -> bool:
        reference = {"name": "x", "uid": "x"}
        subject = {"kind": "User", "name": "joe"}
        forgeries: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("accessrequests", "AccessRequest",
             {"requester": "joe", "subject": subject, "connectorRef": {"name": "x"}}),
            ("accessapprovals", "AccessApproval",
             {"requestRef": reference, "policyRef": reference, "by": "joe", "decision": "Approved"}),
        )  # fmt: skip
        return all(
            b"denied"
            in self.api.request(
                "POST",
                f"{API_PATH}/namespaces/default/{plural}?dryRun=All",
                {"apiVersion": VERSION, "kind": kind, "metadata": {"name": "x"}, "spec": spec},
            ).body
            for plural, kind, spec in forgeries
        )

    def remove_objects(self) -> None:
        """Remove the Connectors and what controllers created, while none runs."""
        for plural in ("connectors", "connectorclasses"):
            for each in self.api.call("GET", f"{API_PATH}/{plural}")["items"]:
                namespace = each["metadata"].get("namespace")
                where = f"{API_PATH}/namespaces/{namespace}" if namespace else API_PATH
                self.delete(f"{where}/{plural}/{each['metadata']['name']}")
        for path in (
            f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets",
            f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps",
            f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases",
            "/apis/certificates.k8s.io/v1/clustertrustbundles",
        ):
            self.delete(path)

    def create_namespace(self) -> str:
        return self.plane.create_namespace(f"team-{next(_NUMBER)}")

    def issue_token(self, namespace: str) -> str:
        """Return a token that the API server accepts as a target."""
        return self.plane.issue_token(namespace, "default")

    def put_secret(
        self, namespace: str, name: str = "s", secret_type: str | None = None, /, **data: str | bytes
    ) -> None:
        """Create a Secret, or replace it with its type. The keyword `ca_crt` is the key `ca.crt`."""
        encoded = {
            key.replace("_", "."): base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
            for key, value in data.items()
        }
        self.delete(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        body = {
            "metadata": {"name": name},
            "type": secret_type or "connectors.cpaas.io/bearer-token",
            "data": encoded,
        }
        self.api.call("POST", f"/api/v1/namespaces/{namespace}/secrets", body)

    def put_connector(self, namespace: str, name: str = "k8s", *, address: str, **spec: Any) -> None:
        body = manifests.connector(name, address, secret="s", **spec)
        self.api.call("POST", f"{API_PATH}/namespaces/{namespace}/connectors", body)

    def patch_connector(self, namespace: str, spec: Mapping[str, Any], name: str = "k8s") -> None:
        self.api.call("PATCH", f"{API_PATH}/namespaces/{namespace}/connectors/{name}", {"spec": spec})

    def delete_connector(self, namespace: str, name: str = "k8s") -> None:
        self.delete(f"{API_PATH}/namespaces/{namespace}/connectors/{name}")

    def get_connector(self, namespace: str, name: str = "k8s") -> Any:
        return self.api.call("GET", f"{API_PATH}/namespaces/{namespace}/connectors/{name}")

    def get_condition(self, namespace: str, kind: str = "Ready", name: str = "k8s") -> dict[str, str]:
        """Return a condition, or an empty dict if the status belongs to an earlier spec."""
        connector = self.get_connector(namespace, name)
        status = connector.get("status") or {}
        conditions = status.get("conditions", ())
        is_current = status.get("observedGeneration") == connector["metadata"]["generation"]
        return next((condition for condition in conditions if is_current and condition["type"] == kind), {})

    def wait_for_condition(
        self, namespace: str, kind: str, status: str, reason: str = "", *, message: str = "", name: str = "k8s"
    ) -> dict[str, str]:
        """Wait until the condition has the status and the reason, and its message contains `message`.

        The default of `reason` is AsExpected for the status True.
        """
        reason = reason or ("AsExpected" if status == "True" else "")

        def matching_condition() -> dict[str, str] | None:
            condition = self.get_condition(namespace, kind, name)
            matches = condition.get("status") == status and condition.get("reason", "") == reason
            return condition if matches and message in condition.get("message", "") else None

        try:
            return wait_until(matching_condition, f"{kind}={status} {reason}")
        except AssertionError as error:
            error.add_note(f"status: {self.get_connector(namespace, name).get('status')}")
            raise

    def wait_for_proxy_address(self, namespace: str, name: str = "k8s") -> Any:
        """Wait until the status has the proxy's address, and return it. Ready may be True before the CA exists."""

        def proxy_address() -> Any:
            status = self.get_connector(namespace, name).get("status") or {}
            return (status.get("proxy") or {}).get("httpAddress")

        return wait_until(proxy_address, "the proxy's address in the status")

    def get_service(self, namespace: str, name: str = "c-k8s") -> Any:
        response = self.api.request("GET", f"/api/v1/namespaces/{namespace}/services/{name}")
        return response.json() if response.status == 200 else None

    def delete(self, path: str) -> None:
        self.api.request("DELETE", path)

    def get_secret_data(self, name: str) -> dict[str, bytes]:
        secret = self.api.call("GET", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/{name}")
        return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
