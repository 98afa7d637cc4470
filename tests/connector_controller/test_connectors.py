"""Reconciliation of one Connector, with a fake API server. All other values are real."""

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from connector_controller.connectors import transitions
from connector_controller.services import NON_PROXY, conflict
from connector_store.domain.config.settings import Settings
from connector_store.domain.objects.manifest import parse_object
from connector_store.domain.status.status import Condition, Status
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS
from lab.certificates import make_ca
from tests.connector_controller.connector_world import HEALTHY, KEY, World, connector, secret
from tests.fakes.api_server import FakeApiServer, refusal


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        world_ = World(server, client)
        await world_.put(connector())
        world_.put_secret(secret(token="t"))
        yield world_


async def test_a_good_connector_gets_its_status_once(world) -> None:
    assert await world.reconcile() is None
    status = await world.status()
    assert await world.ready() == ("True", "AsExpected")
    assert status["observedGeneration"] == 3
    assert status["proxy"]["httpAddress"] == {
        "url": "http://c-k8s.team-a.svc.cluster.local",
        "CACerts": base64.b64encode(b"pem").decode(),
        "audience": "connectors-proxy",
    }
    assert world.events == [("Normal", "Ready")]
    await world.observe()
    world.now = world.now.replace(year=2027)
    await world.reconcile()
    assert world.writes == 1


async def test_the_first_status_does_not_wait_for_the_probe_and_a_later_one_does(world) -> None:
    world.outcomes = None
    await world.reconcile()
    assert await world.ready() == ("Unknown", "NotProbed")
    await world.observe()
    await world.put(connector(address="https://other:6443") | {"status": await world.status()})
    await world.reconcile()
    assert world.writes == 1, "what is shown stays until the probe is back"
    world.outcomes = HEALTHY
    await world.reconcile()
    assert await world.ready() == ("True", "AsExpected")
    assert [each.address.host for each in world.requests] == ["h", "other", "other"]


async def test_a_secret_that_is_not_read_yet_delays_the_status(world) -> None:
    await world.put(connector(caCertSecretRef={"name": "ca"}))
    world.secrets_read = False
    await world.reconcile()
    assert world.writes == 0
    world.secrets_read = True
    await world.reconcile()
    assert (await world.ready())[0] == "False"
    assert ("Warning", "CACertSecretNotFound") in world.events


async def test_a_connector_without_a_usable_secret_is_not_probed(world) -> None:
    world.put_secret(secret())
    await world.reconcile()
    assert await world.ready() == ("False", "SecretKeyMissing")
    assert world.requests == []
    assert world.forgotten == [KEY]
    assert world.events == [("Warning", "SecretKeyMissing")]


async def test_an_invalid_connector_gets_its_reason(world) -> None:
    await world.put(connector(address="http://plain"))
    await world.reconcile()
    assert (await world.ready())[1] == "AddressInvalid"


async def test_an_unreadable_ca_is_named(world) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    world.put_secret(secret(token="t", ca_crt=pem))
    await world.reconcile()
    (condition,) = [each for each in (await world.status())["conditions"] if each["type"] == "CACertReady"]
    assert (condition["status"], condition["reason"]) == ("False", "InvalidPEM")
    assert world.requests == []


async def test_a_good_ca_is_used_in_the_probe(world) -> None:
    pem = make_ca().pem
    world.put_secret(secret(token="t", ca_crt=pem.decode()))
    await world.reconcile()
    assert world.requests[0].ca is not None


async def test_a_foreign_service_is_not_published_and_is_checked_again(world) -> None:
    await world.reconcile()
    await world.observe()
    world.assessment = conflict("c-k8s")
    assert await world.reconcile() == Settings().probe_interval
    assert "proxy" not in await world.status()


async def test_without_a_proxy_service_no_address_is_published(world) -> None:
    await world.reconcile()
    await world.observe()
    world.assessment = NON_PROXY
    assert await world.reconcile() is None
    assert await world.ready() == ("True", "AsExpected")
    assert "proxy" not in await world.status()


async def test_without_a_ca_what_was_published_stays(world) -> None:
    await world.reconcile()
    await world.observe()
    world.ca_pem = None
    await world.reconcile()
    assert world.writes == 1


@pytest.mark.parametrize("how", ["gone", "not ours"])
async def test_a_deleted_or_unsupported_connector_loses_service_and_probe_and_gets_no_status(world, how) -> None:
    if how == "gone":
        world.observed_connectors.replace(())
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


async def test_a_connector_that_waits_for_finalizers_is_not_changed(world) -> None:
    raw = connector()
    raw["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    await world.put(raw)
    await world.reconcile()
    assert world.removed == []
    assert world.writes == 0


async def test_a_concurrent_change_is_a_conflict_and_a_concurrent_deletion_is_not(world) -> None:
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


def test_only_transitions_are_events() -> None:
    def status(**conditions: str) -> Status:
        items = (Condition(type=kind, status=truth, reason="R", message="m") for kind, truth in conditions.items())  # type: ignore[arg-type]  # literals in the calls below
        return Status(conditions=tuple(items))

    assert transitions(status(Ready="False"), status(Ready="True")) == [("Normal", "Ready", "the target can be used")]
    assert transitions(status(Ready="True"), status(Ready="False", AuthReady="False")) == [("Warning", "R", "m")]
    assert transitions(status(AuthReady="False"), status(AuthReady="False")) == []
    assert transitions(status(), status(AuthReady="Unknown", Ready="Unknown")) == []


def token_until(when: datetime) -> str:
    return jwt.encode({"exp": int(when.timestamp())}, "x" * 32, algorithm="HS256")


async def test_a_credential_has_one_event_at_its_warning_and_one_at_its_expiry(world) -> None:
    expiry_warning = timedelta(seconds=Settings().expiry_warning)
    ends = datetime(2026, 1, 10, tzinfo=UTC)
    world.put_secret(secret(token=token_until(ends)))
    # The next run is exactly at the next event.
    for now, again, reasons in (
        (ends - expiry_warning - timedelta(seconds=5), 5.0, ("Normal", "Ready")),
        (ends - expiry_warning, expiry_warning.total_seconds(), ("Warning", "ExpiresSoon")),
        (ends, None, ("Warning", "Expired")),
        (ends + timedelta(days=9), None, None),
    ):
        world.now = now
        assert await world.reconcile() == again
        assert world.events == ([reasons] if reasons is not None else [])
        assert (await world.status())["credential"] == {"expirationTime": "2026-01-10T00:00:00Z"}
        # This is not an error, because clocks differ.
        assert await world.ready() == ("True", "AsExpected")
        world.events.clear()
        await world.observe()


async def test_a_new_credential_ends_the_warning_and_one_without_expiry_has_none(world) -> None:
    world.put_secret(secret(token=token_until(world.now + timedelta(hours=1))))
    await world.reconcile()
    assert world.events == [("Warning", "ExpiresSoon"), ("Normal", "Ready")]
    world.events.clear()
    await world.observe()
    world.put_secret(secret(token=token_until(world.now + timedelta(days=100))))
    # There is no timer for the whole time: a timer of a month is too long.
    assert await world.reconcile() == timedelta(days=7).total_seconds()
    assert await world.fresh() == "True"
    await world.observe()
    world.put_secret(secret(token="opaque"))
    assert await world.reconcile() is None
    assert await world.fresh() == "Unknown"
    assert "credential" not in await world.status()
    assert world.events == []


async def test_a_controller_that_starts_after_the_expiry_records_it_once(world) -> None:
    world.put_secret(secret(token=token_until(world.now - timedelta(hours=1))))
    await world.reconcile()
    assert world.events == [("Warning", "Expired"), ("Normal", "Ready")]
    world.events.clear()
    await world.observe()
    await world.reconcile()
    assert world.events == []


async def test_a_failure_is_confirmed_if_the_status_shows_that_this_spec_works(world) -> None:
    await world.put(connector())
    world.put_secret(secret(token="t"))
    await world.reconcile()
    await world.observe()
    await world.reconcile()
    raw = connector(address="https://other:6443")
    raw["metadata"]["generation"] = 4
    raw["status"] = await world.status()
    await world.put(raw)
    await world.reconcile()
    assert world.was_ready == [False, True, False]


async def test_a_connector_in_a_namespace_that_is_not_served_only_gets_that_status(world) -> None:
    await world.put(connector())
    world.put_secret(secret(token="t"))
    assert await world.reconcile() is None
    assert (await world.ready())[0] == "True"
    world.requests.clear()
    world.store.serve_only(["team-b"])
    await world.observe()
    assert await world.reconcile() is None
    status = await world.status()
    assert [(each["type"], each["status"], each["reason"]) for each in status["conditions"]] == [
        ("Served", "False", "NamespaceNotServed"),
        ("Ready", "False", "NamespaceNotServed"),
    ]
    assert "proxy" not in status
    assert world.forgotten == [KEY]
    assert world.requests == []
    assert ("Warning", "NamespaceNotServed") in world.events
    world.store.serve_only(None)
    await world.observe()
    await world.reconcile()
    assert (await world.ready())[0] == "True"
    assert "Served" not in {each["type"] for each in (await world.status())["conditions"]}
