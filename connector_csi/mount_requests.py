"""Access request of a volume: its name, its manifest, and what its status says.

A volume whose pod may not use the Connector asks for access, and waits until another user decides. The volume contains
only the pod's own token, so the driver may trust the status. Proxies decide about each use, and never read it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from grpc import StatusCode

from connector_csi.failure import Failure
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import parse_time
from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX
from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.domain.objects.access_objects import PodMount
from connector_store.domain.objects.manifest import API_VERSION
from connector_store.domain.objects.manifest_access import parse_access_request
from connector_store.domain.status.status import parse_status

MAX_PREFIX: Final = 240
"""Characters of the pod's name in the name of a request. Names have at most 253."""
FINISHED: Final = ("Denied", "Ended", "NotApprovedInTime")
"""Reasons of the condition Ready after which the request never gives access."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRequest:
    """Access request for the pod of a volume and one Connector. `requester` is the driver's own user name."""

    pod: Pod
    connector: ObjectKey
    requester: str
    node: str

    @property
    def key(self) -> ObjectKey:
        """Key of the object. It is the same for each call of kubelet, so the driver needs no record of it."""
        digest = hashlib.sha256(f"{self.pod.uid}/{self.connector}".encode()).hexdigest()[:10]
        return ObjectKey(self.connector.namespace, f"{self.pod.name[:MAX_PREFIX].rstrip('-.')}-{digest}")

    @property
    def manifest(self) -> dict[str, Any]:
        pod = self.pod
        return {
            "apiVersion": API_VERSION,
            "kind": "AccessRequest",
            "metadata": {"name": self.key.name},
            "spec": {
                "requester": self.requester,
                "subject": {"kind": "ServiceAccount", "namespace": pod.namespace, "name": pod.service_account},
                "connectorRef": {"name": self.connector.name},
                "context": {
                    "objectRef": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name},
                    "mount": {"nodeName": self.node, "podUID": pod.uid},
                },
                "reason": f"volume of pod {pod.namespace}/{pod.name}",
            },
        }

    def _matches(self, raw: Mapping[str, Any]) -> bool:
        """Return True if the object is this request. Another user may have created one of the same name."""
        request = parse_access_request(raw)
        pod = request.pod
        return (
            (request.requester, request.connector) == (self.requester, self.connector.name)
            and request.subject == f"{SERVICE_ACCOUNT_PREFIX}{self.pod.namespace}:{self.pod.service_account}"
            and pod is not None
            and pod.mount == PodMount(self.node, self.pod.uid)
        )

    def assess(self, raw: Mapping[str, Any], now: float) -> Failure | None:
        """Return None if the request gives access, or why it does not. `now` is the API server's time in Unix seconds.

        A Failure with `is_decided` does not change any more.
        """
        if not self._matches(raw):
            message = f"accessrequests.connectors.alauda.io {self.key} is not the driver's own; delete it"
            return Failure(code=StatusCode.PERMISSION_DENIED, message=message)
        ready = parse_status(raw).ready
        end = parse_time((raw.get("status") or {}).get("expirationTime"))
        if ready is None or ready.reason in ("Pending", "PodNotSet"):
            return self.waiting()
        if ready.status == "True" and (end is None or now < end):
            return None
        reason = "Ended" if ready.status == "True" else ready.reason
        message = f"accessrequests.connectors.alauda.io {self.key} gives no access: {reason}: {ready.message}"
        if reason not in FINISHED:
            return Failure(code=StatusCode.PERMISSION_DENIED, message=message)
        return Failure(
            code=StatusCode.PERMISSION_DENIED, message=f"{message}; to ask again, delete the pod", is_decided=True
        )

    def waiting(self) -> Failure:
        """Return the Failure of a pending request. It does not tell whether the Connector exists."""
        pod, key = self.pod, self.connector
        return Failure(
            code=StatusCode.PERMISSION_DENIED,
            message=(
                f"waiting for approval of the access request {self.key}; approve it with: "
                f"connectorctl approve {self.key}; "
                f'connectors.connectors.alauda.io "{key.name}" in namespace "{key.namespace}" does not exist, or '
                f'ServiceAccount "{pod.service_account}" of namespace "{pod.namespace}" may not use it without approval'
            ),
        )
