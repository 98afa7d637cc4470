"""One Connector from what is seen to what is written, with the API server faked and everything else real values."""

import base64
from datetime import UTC, datetime
from typing import Any

from connector_controller.connectors import ConnectorReconciler
from connector_controller.observed import Registry, SeenConnector, see_connector
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
WELL = ProbeOutcomes(liveness=ProbeResponse(status=200), auth=ProbeResponse(status=200))


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
        self.seen: Registry[ObjectKey, SeenConnector] = Registry(lambda each: each.key, lambda key: None)
        self.finding: Assessment = READY
        self.answer: ProbeOutcomes | None = WELL
        self.known = True
        self.ca: bytes | None = b"pem"
        self.requests: list[ProbeRequest] = []
        self.was_well: list[bool] = []
        self.forgotten: list[ObjectKey] = []
        self.removed: list[ObjectKey] = []
        self.events: list[tuple[str, str]] = []
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.reconciler = ConnectorReconciler(
            client,
            self.store,
            self.seen,
            services=self,
            probing=self,
            events=self,
            trust=TrustStore(),
            settings=Settings(),
            knows=lambda key: self.known,
            ca=lambda: self.ca,
            now=lambda: self.now,
        )

    async def ensure(self, connector: ObjectKey, uid: str) -> Assessment:
        assert uid.startswith("uid-")
        return self.finding

    async def remove(self, connector: ObjectKey) -> None:
        self.removed.append(connector)

    def ask(self, key: ObjectKey, request: ProbeRequest, *, was_well: bool) -> ProbeOutcomes | None:
        self.requests.append(request)
        self.was_well.append(was_well)
        return self.answer

    def forget(self, key: ObjectKey) -> None:
        self.forgotten.append(key)

    def record(self, regarding, kind: str, reason: str, note: str) -> None:
        assert regarding.key == KEY
        self.events.append((kind, reason))

    async def put(self, raw: dict[str, Any]) -> None:
        await self.server.put(CONNECTORS, raw)
        await self.see()

    def put_secret(self, raw: dict[str, Any]) -> None:
        self.store.put("secrets", parse_object(raw, system_namespace="sys"))

    async def see(self) -> None:
        raw = await self.client.get(CONNECTORS.path(*KEY))
        found = see_connector(raw)
        assert found is not None
        self.seen.put(found)

    async def reconcile(self) -> float | None:
        return await self.reconciler.reconcile(KEY)

    async def status(self) -> dict[str, Any]:
        held = await self.client.get(CONNECTORS.path(*KEY))
        status: dict[str, Any] = held.get("status") or {}
        return status

    async def ready(self) -> tuple[str, str]:
        (found,) = [each for each in (await self.status())["conditions"] if each["type"] == "Ready"]
        return found["status"], found.get("reason", "")

    async def fresh(self) -> str:
        (found,) = [each for each in (await self.status())["conditions"] if each["type"] == "CredentialFresh"]
        return str(found["status"])

    @property
    def writes(self) -> int:
        return sum(method != "GET" for method, _, _ in self.server.requests)
