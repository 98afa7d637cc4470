from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from connector_controller.classes import ClassReconciler, builtin_class_manifest, readiness
from connector_controller.observed import ObjectCache, ObservedClass, parse_observed_class
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.manifest_class import parse_class
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTOR_CLASSES
from tests.fakes.api_server import FakeApiServer, refusal

BASIC = {"spec": {"auth": {"types": [{"name": "basic", "secretType": "kubernetes.io/basic-auth"}]}}}


class World:
    def __init__(self, server: FakeApiServer, client: KubeClient) -> None:
        self.server, self.client = server, client
        self.observed_classes: ObjectCache[str, ObservedClass] = ObjectCache(lambda each: each.key, lambda key: None)
        self.reconciler = ClassReconciler(client, self.observed_classes, now=lambda: datetime(2026, 1, 2, tzinfo=UTC))

    async def observe(self, name: str = "k8s") -> None:
        observed = parse_observed_class(await self.client.get(CONNECTOR_CLASSES.path(None, name)))
        assert observed is not None
        self.observed_classes.put(observed)

    @property
    def writes(self) -> int:
        return sum(method != "GET" for method, _, _ in self.server.requests)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with FakeApiServer().serving() as server, KubeClient(server.configuration) as client:
        yield World(server, client)


def test_the_manifest_is_the_built_in_class() -> None:
    parsed = parse_class(builtin_class_manifest())
    assert replace(parsed, unsupported_fields=()) == K8S
    assert parsed.unsupported_fields == ()


async def test_k8s_is_created_once_and_then_only_gets_its_status(world) -> None:
    await world.reconciler.reconcile("k8s")
    await world.reconciler.reconcile("k8s")
    await world.observe()
    await world.reconciler.reconcile("k8s")
    obj = await world.client.get(CONNECTOR_CLASSES.path(None, "k8s"))
    (condition,) = obj["status"]["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    await world.observe()
    before = world.writes
    await world.reconciler.reconcile("k8s")
    assert world.writes == before


async def test_an_edited_class_is_not_changed_and_its_unsupported_fields_are_named(world) -> None:
    edited = builtin_class_manifest()
    edited["spec"]["auth"]["types"][0]["generator"] = {"rego": "package x"}
    await world.server.put(CONNECTOR_CLASSES, edited)
    await world.observe()
    await world.reconciler.reconcile("k8s")
    obj = await world.client.get(CONNECTOR_CLASSES.path(None, "k8s"))
    assert obj["spec"] == edited["spec"]
    assert "accepted and not run" in obj["status"]["conditions"][0]["message"]
    assert "generator" in obj["status"]["conditions"][0]["message"]


async def test_other_classes_are_not_created_and_get_no_status(world) -> None:
    await world.reconciler.reconcile("git")
    await world.server.put(CONNECTOR_CLASSES, {"metadata": {"name": "git"}, **BASIC})
    await world.observe("git")
    await world.reconciler.reconcile("git")
    assert world.writes == 0


async def test_a_class_deleted_meanwhile_is_not_an_error_and_other_refusals_are(world) -> None:
    await world.reconciler.reconcile("k8s")
    await world.observe()
    await world.server.delete(CONNECTOR_CLASSES, "k8s")
    await world.reconciler.reconcile("k8s")
    world.server.faults.append(lambda request: refusal(500, "InternalError", "etcd"))
    with pytest.raises(ApiError):
        await world.reconciler.reconcile("k8s")
    world.observed_classes.replace(())
    with pytest.raises(ApiError):
        await world.reconciler.reconcile("k8s")


def test_classes_with_a_bearer_token_are_supported() -> None:
    assert readiness(K8S).message == ""
