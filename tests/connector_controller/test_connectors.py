"""One Connector from what is seen to what is written, with the API server faked and everything else real values."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from connector_controller.connectors import ConnectorReconciler, probe_request, transitions
from connector_controller.observed import Registry, SeenConnector, see_connector
from connector_controller.probes import ProbeRequest
from connector_controller.services import READY, conflict
from connector_store.domain.conditions import Answered, Finding, Probes
from connector_store.domain.facts import Facts
from connector_store.domain.manifest import parse_object
from connector_store.domain.models import Rejected
from connector_store.domain.names import ObjectKey
from connector_store.domain.settings import Settings
from connector_store.domain.status import Condition, Status
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS
from connector_store.store import Store
from connector_store.trust import TrustStore
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.certificates import make_ca

KEY = ObjectKey("team-a", "k8s")
WELL = Probes(liveness=Answered(status=200), auth=Answered(status=200))


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
        self.finding: Finding = READY
        self.answer: Probes | None = WELL
        self.known = True
        self.ca: bytes | None = b"pem"
        self.requests: list[ProbeRequest] = []
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

    async def ensure(self, connector: ObjectKey, uid: str) -> Finding:
        assert uid.startswith("uid-")
        return self.finding

    async def remove(self, connector: ObjectKey) -> None:
        self.removed.append(connector)

    def ask(self, key: ObjectKey, request: ProbeRequest) -> Probes | None:
        self.requests.append(request)
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

    @property
    def writes(self) -> int:
        return sum(method != "GET" for method, _, _ in self.server.requests)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        made = World(server, client)
        await made.put(connector())
        made.put_secret(secret(token="t"))
        yield made


async def test_a_good_one_gets_its_status_once_and_nothing_more(world) -> None:
    assert await world.reconcile() is None
    status = await world.status()
    assert await world.ready() == ("True", "")
    assert status["observedGeneration"] == 3
    assert status["proxy"]["httpAddress"] == {
        "url": "http://c-k8s.team-a.svc.cluster.local",
        "CACerts": base64.b64encode(b"pem").decode(),
        "audience": "connectors-proxy",
    }
    assert world.events == [("Normal", "Ready")]
    await world.see()
    world.now = world.now.replace(year=2027)
    await world.reconcile()
    assert world.writes == 1


async def test_the_first_status_does_not_wait_for_the_probe_and_a_later_one_does(world) -> None:
    world.answer = None
    await world.reconcile()
    assert await world.ready() == ("Unknown", "NotProbed")
    await world.see()
    await world.put(connector(address="https://other:6443") | {"status": await world.status()})
    await world.reconcile()
    assert world.writes == 1, "what is shown stays until the probe is back"
    world.answer = WELL
    await world.reconcile()
    assert await world.ready() == ("True", "")
    assert [each.address.host for each in world.requests] == ["h", "other", "other"]


async def test_a_secret_that_may_still_come_is_waited_for(world) -> None:
    await world.put(connector(caCertSecretRef={"name": "ca"}))
    world.known = False
    await world.reconcile()
    assert world.writes == 0
    world.known = True
    await world.reconcile()
    assert (await world.ready())[0] == "False"
    assert ("Warning", "CACertSecretNotFound") in world.events


async def test_what_cannot_be_asked_is_not_probed(world) -> None:
    world.put_secret(secret())
    await world.reconcile()
    assert await world.ready() == ("False", "SecretKeyMissing")
    assert world.requests == []
    assert world.forgotten == [KEY]
    assert world.events == [("Warning", "SecretKeyMissing")]


async def test_a_rejected_one_is_told_why(world) -> None:
    await world.put(connector(address="http://plain"))
    await world.reconcile()
    assert (await world.ready())[1] == "AddressInvalid"


async def test_a_ca_that_cannot_be_loaded_is_named(world) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    world.put_secret(secret(token="t", ca_crt=pem))
    await world.reconcile()
    (found,) = [each for each in (await world.status())["conditions"] if each["type"] == "CACertReady"]
    assert (found["status"], found["reason"]) == ("False", "InvalidPEM")
    assert world.requests == []


async def test_a_good_ca_is_asked_with(world) -> None:
    pem = make_ca().pem
    world.put_secret(secret(token="t", ca_crt=pem.decode()))
    await world.reconcile()
    assert world.requests[0].ca is not None


async def test_of_a_strangers_service_no_address_is_published_and_it_is_looked_at_again(world) -> None:
    await world.reconcile()
    await world.see()
    world.finding = conflict("c-k8s")
    assert await world.reconcile() == Settings().probe_interval
    assert "proxy" not in await world.status()


async def test_without_a_ca_what_was_published_stays(world) -> None:
    await world.reconcile()
    await world.see()
    world.ca = None
    await world.reconcile()
    assert world.writes == 1


@pytest.mark.parametrize("how", ["gone", "not ours"])
async def test_one_that_is_gone_or_anothers_loses_service_and_probe_and_gets_no_status(world, how) -> None:
    if how == "gone":
        world.seen.replace(())
    else:
        raw = {
            "apiVersion": "connectors.alauda.io/v1alpha1",
            "kind": "ConnectorClass",
            "metadata": {"name": "k8s"},
            "spec": {"auth": {"types": [{"name": "basic", "secretType": "kubernetes.io/basic-auth"}]}},
        }
        world.store.put("classes", parse_object(raw, system_namespace="sys"))
        await world.put(connector(auth={"name": "basic", "secretRef": {"name": "s"}}))
    await world.reconcile()
    assert world.removed == world.forgotten == [KEY]
    assert world.writes == 0


async def test_one_that_waits_for_finalizers_is_let_alone(world) -> None:
    raw = connector()
    raw["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    await world.put(raw)
    await world.reconcile()
    assert world.removed == []
    assert world.writes == 0


async def test_what_changed_meanwhile_is_a_conflict_and_what_is_gone_is_none(world) -> None:
    await world.client.patch(CONNECTORS.path(*KEY), {"spec": {"address": "https://new:1"}})
    with pytest.raises(ApiError) as caught:
        await world.reconcile()
    assert caught.value.status == 409
    assert world.events == []
    await world.server.delete(CONNECTORS, "k8s", "team-a")
    await world.reconcile()
    world.server.faults.append(lambda request: refusal(500, "InternalError", "etcd"))
    with pytest.raises(ApiError):
        await world.reconcile()


def test_a_rejected_one_has_nothing_to_ask() -> None:
    rejected = Rejected(key=KEY, class_name="k8s", reason="AddressInvalid", message="x")
    assert probe_request(Facts(connector=rejected, cls=None)) is None


def test_only_transitions_are_told() -> None:
    def status(**conditions: str) -> Status:
        made = (Condition(type=kind, status=truth, reason="R", message="m") for kind, truth in conditions.items())  # type: ignore[arg-type]  # literals in the calls below
        return Status(conditions=tuple(made))

    assert transitions(status(Ready="False"), status(Ready="True")) == [("Normal", "Ready", "the target can be used")]
    assert transitions(status(Ready="True"), status(Ready="False", AuthReady="False")) == [("Warning", "R", "m")]
    assert transitions(status(AuthReady="False"), status(AuthReady="False")) == []
    assert transitions(status(), status(AuthReady="Unknown", Ready="Unknown")) == []
