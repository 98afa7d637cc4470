"""Rotation of the CA's Secret and ConfigMap, step by step, with a fake API server."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography import x509

from connector_controller.ca_certificates import create_ca, utc
from connector_controller.ca_rotation import (
    ANNOUNCED_ANNOTATION,
    MAX_REQUEUE,
    ROTATE_ANNOTATION,
    SWITCHED_ANNOTATION,
    CaRotation,
)
from connector_store.ca_secret import read_signer, to_pem
from connector_store.domain.config.settings import Settings
from connector_store.domain.status.rotation_plan import NEXT_CA_KEY, PUBLISHED_CA_KEY, SIGNING_CA_KEY
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONFIG_MAPS, SECRETS, Resource
from lab.certificates import make_ca
from tests.fakes.api_server import FakeApiServer

NAME, SYSTEM = "connectors-proxy-ca", "connectors-system"
SETTINGS = Settings(ca_secret=NAME, ca_overlap=600.0)


class World:
    def __init__(self, server: FakeApiServer, client: KubeClient, settings: Settings) -> None:
        self.server, self.client = server, client
        self.now = 1_800_000_000.0
        self.published = 0
        self.rotation = CaRotation(client, settings, now=lambda: self.now, on_published=self.on_published)

    def on_published(self) -> None:
        self.published += 1

    async def raw(self, resource: Resource) -> dict[str, Any] | None:
        try:
            return await self.client.get(resource.path(SYSTEM, NAME))
        except ApiError:
            return None

    async def turn(self) -> float | None:
        """Deliver the state of the watches and reconcile once."""
        self.rotation.secret = await self.raw(SECRETS)
        self.rotation.config_map = await self.raw(CONFIG_MAPS)
        return await self.rotation.reconcile("ca")

    async def settle(self) -> float | None:
        """Reconcile until nothing is written. Return the seconds to the next step."""
        for _ in range(12):
            before = self.writes
            again = await self.turn()
            if self.writes == before:
                return again
        raise AssertionError("it never comes to rest")

    @property
    def writes(self) -> int:
        return sum(method != "GET" for method, _, _ in self.server.requests)

    async def data(self) -> dict[str, bytes]:
        raw = await self.raw(SECRETS)
        assert raw is not None
        return {key: base64.b64decode(value) for key, value in raw["data"].items()}

    async def annotations(self) -> dict[str, str]:
        raw = await self.raw(SECRETS)
        assert raw is not None
        annotations: dict[str, str] = raw["metadata"].get("annotations") or {}
        return annotations

    async def config_map(self) -> bytes:
        raw = await self.raw(CONFIG_MAPS)
        assert raw is not None
        return str(raw["data"]["ca.crt"]).encode()

    async def bring(self, *, labels: dict[str, str] | None = None, **data: bytes) -> None:
        encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
        metadata = {"name": NAME, "namespace": SYSTEM, "labels": labels or {}}
        await self.server.put(SECRETS, {"metadata": metadata, "data": encoded})

    async def annotate(self, name: str, value: str = "now") -> None:
        await self.client.patch(SECRETS.path(SYSTEM, NAME), {"metadata": {"annotations": {name: value}}})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        yield World(server, client, SETTINGS)


def count(pem: bytes | None) -> int:
    assert pem is not None
    return len(x509.load_pem_x509_certificates(pem))


async def test_the_ca_is_created_once_and_published(world, caplog) -> None:
    caplog.set_level("INFO")
    again = await world.settle()
    [line] = [each.message for each in caplog.records if "create" in each.message]
    assert line.startswith("CA: create CN=connectors-proxy ")
    assert world.writes == 2, "the Secret and the ConfigMap"
    assert again == MAX_REQUEUE, "two years of a clock that was a year behind would be one too many"
    assert world.rotation.published_pem == await world.config_map() == (await world.data())[PUBLISHED_CA_KEY]
    assert b"PRIVATE" not in await world.config_map()
    assert world.published == 1
    assert world.rotation.expires_at == read_signer(await world.data(), SIGNING_CA_KEY).expires_at


async def test_a_rotation_runs_step_by_step_and_waits_for_its_overlap(world) -> None:
    await world.settle()
    first = read_signer(await world.data(), SIGNING_CA_KEY).certificate
    await world.annotate(ROTATE_ANNOTATION)
    assert await world.settle() == pytest.approx(600, abs=1)
    assert set(await world.annotations()) == {ANNOUNCED_ANNOTATION}
    assert count(world.rotation.published_pem) == count(await world.config_map()) == 2
    assert read_signer(await world.data(), SIGNING_CA_KEY).certificate == first

    world.now += 599
    await world.settle()
    assert read_signer(await world.data(), SIGNING_CA_KEY).certificate == first
    world.now += 2
    await world.settle()
    data = await world.data()
    second = read_signer(data, SIGNING_CA_KEY)
    assert second.certificate != first
    second.chain[0].verify_directly_issued_by(first)
    assert NEXT_CA_KEY not in data
    assert count(world.rotation.published_pem) == 2, "the former one is still published"
    assert set(await world.annotations()) == {SWITCHED_ANNOTATION}

    world.now += 601
    assert (await world.settle() or 0) > 600
    assert world.rotation.published_pem == await world.config_map() == to_pem(second.certificate)
    assert await world.annotations() == {}


async def test_a_ca_near_its_expiry_is_rotated(world) -> None:
    await world.settle()
    world.now += 2.1 * 365 * 86400
    await world.settle()
    assert NEXT_CA_KEY in await world.data()


async def test_a_users_own_ca_is_published_and_never_changed(world) -> None:
    own = make_ca()
    await world.bring(mitmproxy_ca_pem=b"")
    raw = own.key_pem + own.pem
    await world.client.patch(SECRETS.path(SYSTEM, NAME), {"data": {SIGNING_CA_KEY: base64.b64encode(raw).decode()}})
    assert await world.settle() is None
    assert await world.config_map() == own.pem
    before = world.writes
    await world.annotate(ROTATE_ANNOTATION)
    await world.settle()
    assert await world.annotations() == {}
    assert (await world.data())[SIGNING_CA_KEY] == raw
    assert world.writes == before + 2, "the annotation, set and taken away"


async def test_a_users_next_ca_becomes_the_signing_ca_by_the_same_steps(world) -> None:
    own, following = make_ca("own"), make_ca("following")
    encoded = {SIGNING_CA_KEY: own.key_pem + own.pem, NEXT_CA_KEY: following.key_pem + following.pem}
    body = {key: base64.b64encode(value).decode() for key, value in encoded.items()}
    await world.server.put(SECRETS, {"metadata": {"name": NAME, "namespace": SYSTEM}, "data": body})
    await world.settle()
    assert count(await world.config_map()) == 2
    for _ in range(2):
        world.now += 601
        await world.settle()
    data = await world.data()
    assert read_signer(data, SIGNING_CA_KEY).certificate == following.certificate
    assert await world.config_map() == following.pem


async def test_a_secret_without_a_ca_gets_one_and_keeps_its_other_keys(world) -> None:
    await world.bring(note=b"hello")
    await world.settle()
    data = await world.data()
    assert data["note"] == b"hello"
    assert read_signer(data, SIGNING_CA_KEY)


async def test_a_published_ca_whose_secret_is_gone_is_waited_for(world, caplog) -> None:
    await world.settle()
    backup, published = await world.raw(SECRETS), await world.config_map()
    assert backup is not None
    await world.client.delete(SECRETS.path(SYSTEM, NAME))
    before = world.writes
    for _ in range(3):
        assert await world.turn() is None
    assert (world.writes, world.rotation.published_pem) == (before, published)
    assert world.rotation.is_unusable
    [error] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "restore the Secret from its backup, or delete that ConfigMap" in error.message

    # A controller that starts now publishes what callers trust.
    other = World(world.server, world.client, SETTINGS)
    await other.turn()
    assert (other.rotation.published_pem, other.rotation.is_unusable) == (published, True)

    await world.server.put(SECRETS, {"metadata": {"name": NAME, "namespace": SYSTEM}, "data": backup["data"]})
    await world.settle()
    assert not world.rotation.is_unusable
    assert await world.config_map() == published


async def test_a_secret_without_its_published_ca_gets_no_other(world) -> None:
    await world.settle()
    await world.client.patch(SECRETS.path(SYSTEM, NAME), {"data": {SIGNING_CA_KEY: None}})
    before = world.writes
    await world.turn()
    assert (world.writes, world.rotation.is_unusable) == (before, True)


async def test_without_secret_and_config_map_a_new_ca_is_created(world) -> None:
    await world.settle()
    first = await world.config_map()
    await world.client.delete(SECRETS.path(SYSTEM, NAME))
    await world.turn()
    await world.client.delete(CONFIG_MAPS.path(SYSTEM, NAME))
    await world.settle()
    assert await world.config_map() != first
    assert not world.rotation.is_unusable


async def put_tls_secret(world: World, **data: bytes) -> None:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": NAME, "namespace": SYSTEM}
    await world.server.put(SECRETS, {"metadata": metadata, "type": "kubernetes.io/tls", "data": encoded})


async def test_a_ca_of_cert_manager_is_published_and_never_changed(world) -> None:
    own = make_ca()
    await put_tls_secret(world, tls_crt=own.pem, tls_key=own.key_pem, ca_crt=own.pem)
    await world.settle()
    assert await world.config_map() == own.pem
    assert set(await world.data()) == {"tls.crt", "tls.key", "ca.crt"}
    assert world.rotation.expires_at == own.certificate.not_valid_after_utc.timestamp()


async def test_a_secret_that_cert_manager_has_not_filled_yet_is_waited_for(world, caplog) -> None:
    await put_tls_secret(world, tls_crt=b"", tls_key=b"")
    await world.turn()
    assert world.writes == 0
    assert "data[tls.crt]: has no CA yet" in caplog.text


async def test_an_edited_config_map_is_repaired(world) -> None:
    await world.settle()
    await world.client.patch(CONFIG_MAPS.path(SYSTEM, NAME), {"data": {"ca.crt": "evil"}})
    await world.settle()
    assert await world.config_map() == world.rotation.published_pem


@pytest.mark.parametrize(
    "value",
    [pytest.param("%%%", id="no base64"), pytest.param(base64.b64encode(b"hello").decode(), id="no PEM")],
)
async def test_an_unreadable_ca_is_logged_once_and_the_published_one_stays(world, caplog, value) -> None:
    await world.settle()
    pem = world.rotation.published_pem
    await world.client.patch(SECRETS.path(SYSTEM, NAME), {"data": {SIGNING_CA_KEY: value}})
    before = world.writes
    for _ in range(3):
        assert await world.turn() is None
    assert (world.rotation.published_pem, world.writes) == (pem, before)
    assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1
    assert "data[mitmproxy-ca.pem]" in caplog.text


async def test_a_stale_view_writes_nothing(world) -> None:
    await world.settle()
    await world.annotate(ROTATE_ANNOTATION)
    world.rotation.secret = await world.raw(SECRETS)
    await world.annotate("other")
    with pytest.raises(ApiError) as caught:
        await world.rotation.reconcile("ca")
    assert caught.value.status == 409
    assert NEXT_CA_KEY not in await world.data()


async def test_invalid_times_restart_the_overlap(world) -> None:
    await world.settle()
    await world.annotate(ROTATE_ANNOTATION)
    await world.settle()
    await world.annotate(ANNOUNCED_ANNOTATION, "yesterday")
    await world.settle()
    assert (await world.annotations())[ANNOUNCED_ANNOTATION] == "2027-01-15T08:00:00Z"


async def test_without_a_ca_secret_the_config_map_is_what_is_published(world) -> None:
    bare = World(world.server, world.client, Settings())
    await bare.turn()
    assert bare.rotation.published_pem is None
    pem = to_pem(create_ca(utc(bare.now)).certificate)
    await bare.server.put(
        CONFIG_MAPS, {"metadata": {"name": NAME, "namespace": SYSTEM}, "data": {"ca.crt": pem.decode()}}
    )
    await bare.turn()
    assert bare.rotation.published_pem == pem
    assert bare.writes == 0


async def test_a_concurrent_change_of_an_administrator_survives_and_the_step_is_repeated(world) -> None:
    """Their change arrives while the ConfigMap is written, before the Secret is."""
    await world.settle()
    await world.client.patch(SECRETS.path(SYSTEM, NAME), {"metadata": {"annotations": {ROTATE_ANNOTATION: "now"}}})
    world.rotation.secret = await world.raw(SECRETS)
    world.rotation.config_map = await world.raw(CONFIG_MAPS)
    await world.client.patch(CONFIG_MAPS.path(SYSTEM, NAME), {"data": {"ca.crt": "edited"}})
    world.rotation.config_map = await world.raw(CONFIG_MAPS)
    theirs = make_ca("an administrator's own").pem
    union = (await world.data())["ca.crt"] + theirs

    async def meanwhile() -> None:
        encoded = base64.b64encode(union).decode()
        await world.client.patch(SECRETS.path(SYSTEM, NAME), {"data": {"ca.crt": encoded}})
        world.rotation.secret = await world.raw(SECRETS)

    ensure = world.rotation._ensure_config_map

    async def ensure_while_it_is_changed(*arguments: Any) -> None:
        await meanwhile()
        await ensure(*arguments)

    world.rotation._ensure_config_map = ensure_while_it_is_changed
    with pytest.raises(ApiError) as conflict:
        await world.rotation.reconcile("ca")
    assert conflict.value.status == 409
    assert (await world.data())["ca.crt"] == union
    world.rotation._ensure_config_map = ensure
    await world.settle()
    assert theirs in (await world.data())["ca.crt"]
    assert NEXT_CA_KEY in await world.data()
