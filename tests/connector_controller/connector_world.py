"""Reconciler of one Connector with a fake API server. All other values are real."""

import base64
from datetime import UTC, datetime
from typing import Any

from connector_controller.connectors import ConnectorReconciler
from connector_controller.observed import ObjectCache, ObservedConnector, parse_observed_connector
from connector_controller.services import READY
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.objects.manifest import parse_object
from connector_store.domain.status.conditions import Assessment, ProbeOutcomes, ProbeResponse
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONNECTORS
from connector_store.probes import ProbeRequest
from connector_store.store import Store
from connector_store.trust import TrustStore
from tests.fakes.api_server import FakeApiServer

KEY = ObjectKey("team-a", "k8s")
HEALTHY = ProbeOutcomes(liveness=ProbeResponse(status=200), auth=ProbeResponse(status=200))


def connector(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "k8s", "namespace": "team-a", "generation": 3},
        "spec": {
            "connectorClassName": "k8s",
            "address": "https://h:6443",
            "auth": {"name": "bearerTokenAuth", "secretRef": {"name": "s"}},
            **spec,
        },
    }


def secret(name: str = "s", **data: str) -> dict[str, Any]:
    encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "team-a"},
        "type": "connectors.cpaas.io/bearer-token",
        "data": encoded,
    }


class World:
    def __init__(self, server: FakeApiServer, client: KubeClient) -> None:
        self.server, self.client, self.store = server, client, Store()
        self.observed_connectors: ObjectCache[ObjectKey, ObservedConnector] = ObjectCache(
            lambda each: each.key, lambda key: None
        )
        self.assessment: Assessment = READY
        self.outcomes: ProbeOutcomes | None = HEALTHY
        self.secrets_read = True
        self.ca_pem: bytes | None = b"pem"
        self.requests: list[ProbeRequest] = []
        self.was_ready: list[bool] = []
        self.forgotten: list[ObjectKey] = []
        self.removed: list[ObjectKey] = []
        self.events: list[tuple[str, str]] = []
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.reconciler = ConnectorReconciler(
            client,
            self.store,
            self.observed_connectors,
            services=self,
            probe_schedule=self,
            events=self,
            trust=TrustStore(),
            settings=Settings(),
            has_read_secret=lambda key: self.secrets_read,
            ca_pem=lambda: self.ca_pem,
            now=lambda: self.now,
        )

    async def ensure(self, connector: ObjectKey, uid: str) -> Assessment:
        assert uid.startswith("uid-")
        return self.assessment

    async def remove(self, connector: ObjectKey) -> None:
        self.removed.append(connector)

    def get_result(self, key: ObjectKey, request: ProbeRequest, *, was_ready: bool) -> ProbeOutcomes | None:
        self.requests.append(request)
        self.was_ready.append(was_ready)
        return self.outcomes

    def forget(self, key: ObjectKey) -> None:
        self.forgotten.append(key)

    def record(self, regarding, event_type: str, reason: str, note: str) -> None:
        assert regarding.key == KEY
        self.events.append((event_type, reason))

    async def put(self, raw: dict[str, Any]) -> None:
        await self.server.put(CONNECTORS, raw)
        await self.observe()

    def put_secret(self, raw: dict[str, Any]) -> None:
        self.store.put("secrets", parse_object(raw, system_namespace="sys"))

    async def observe(self) -> None:
        raw = await self.client.get(CONNECTORS.path(*KEY))
        observed = parse_observed_connector(raw)
        assert observed is not None
        self.observed_connectors.put(observed)

    async def reconcile(self) -> float | None:
        return await self.reconciler.reconcile(KEY)

    async def status(self) -> dict[str, Any]:
        obj = await self.client.get(CONNECTORS.path(*KEY))
        status: dict[str, Any] = obj.get("status") or {}
        return status

    async def ready(self) -> tuple[str, str]:
        (condition,) = [each for each in (await self.status())["conditions"] if each["type"] == "Ready"]
        return condition["status"], condition.get("reason", "")

    async def fresh(self) -> str:
        (condition,) = [each for each in (await self.status())["conditions"] if each["type"] == "CredentialFresh"]
        return str(condition["status"])

    @property
    def writes(self) -> int:
        return sum(method != "GET" for method, _, _ in self.server.requests)
