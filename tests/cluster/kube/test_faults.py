"""Faults between a real API server and the store, and recovery without a restart."""

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Unavailable
from connector_store.domain.config.settings import AccessRule
from connector_store.kube.access import KubeAccess
from connector_store.store import Store
from lab.control_plane import ControlPlane
from lab.rbac import wait_for_rbac
from lab.waiting import TIMEOUT
from tests.cluster.kube.cluster_store import running_store, token_of
from tests.cluster.kube.front_proxy import FrontProxy
from tests.cluster.kube.installation import (
    AUDIENCE,
    account_subject,
    connector,
    grant_use,
    install,
    install_definitions,
    install_roles,
    proxy_client,
    secret,
)
from tests.fakes.relay import TcpRelay
from tests.fakes.waiting import until

pytestmark = pytest.mark.timeout(900)

KEY = ObjectKey("team-a", "k8s")
RULE = AccessRule("use", "connectors", "proxy")
OURS = "connector_store.kube"
MAX_ROUNDS = 10
REVIEW_TIMEOUT = "connector_store.kube.review.TIMEOUT"
"""Time limit of a review. The tests give a busy API server minutes, unless they need a review without a response."""


def fill(plane: ControlPlane, value: str, namespace: str = KEY.namespace) -> None:
    plane.api.apply(secret("k8s-secret", token=value), connector("k8s"), namespace=namespace)


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name.startswith(OURS) and each.levelno >= level]


def advice(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each for each in lines(caplog) if "kubectl apply -k deploy/" in each]


def has_token(store: Store, key: ObjectKey, token: str) -> bool:
    return token_of(store, key) == token


def once(messages: list[str]) -> bool:
    return len(messages) == len(set(messages))


async def test_the_api_server_is_killed_and_restarted(
    disturbed_plane: ControlPlane, disturbed_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    plane, namespace = disturbed_plane, disturbed_namespace
    key = ObjectKey(namespace, "k8s")
    fill(plane, "one", namespace)
    async with proxy_client(plane) as client, running_store(client) as store:
        await until(lambda: store.synced and token_of(store, key) == "one")
        caplog.clear()
        plane.kill()
        await until(lambda: len(lines(caplog)) >= 4, "each of the four watches says that it broke")
        assert token_of(store, key) == "one"
        assert store.synced
        plane.start_apiserver()
        fill(plane, "two", namespace)
        await until(lambda: token_of(store, key) == "two")
    assert once(lines(caplog)), lines(caplog)


async def test_a_dropped_stream_is_resumed_where_it_was(plane: ControlPlane, own_namespace: str) -> None:
    key = ObjectKey(own_namespace, "k8s")
    restarts: list[str] = []
    plane.api.apply(secret("k8s-secret", token="one"), connector("k8s"), namespace=own_namespace)
    async with (
        TcpRelay(plane.url).serving() as relay,
        proxy_client(plane, server=relay.url) as client,
        running_store(client, on_restart=restarts.append) as store,
    ):
        await until(lambda: store.synced and token_of(store, key) == "one")
        expected = ["ClusterRole", "Connector", "ConnectorClass", "Secret", "Secret", "Secret"]
        for number in range(MAX_ROUNDS):
            restarts.clear()
            relay.drop()
            plane.api.apply(secret("k8s-secret", token=f"token-{number}"), namespace=own_namespace)
            await until(partial(has_token, store, key, f"token-{number}"))
            await until(lambda: Counter(expected) <= Counter(restarts), "each watch to be restarted")
            # One more where Connectors of other tests, in this cluster too, name Secrets of other types.
            if sorted(restarts) in (expected, [*expected, "Secret"]):
                break
            # A busy server, or one whose caches are still being filled, refuses an attempt, which counts.
        else:
            pytest.fail(f"watches were restarted more than once in each round, in the last one: {restarts}")


async def test_resuming_from_a_compacted_version_gets_410_and_lists_again(
    disturbed_plane: ControlPlane, disturbed_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plane, namespace = disturbed_plane, disturbed_namespace
    key = ObjectKey(namespace, "k8s")
    fill(plane, "one", namespace)
    plane.api.apply(connector("gone"), namespace=namespace)
    deleted_key = ObjectKey(namespace, "gone")
    async with (
        TcpRelay(plane.url).serving() as relay,
        proxy_client(plane, server=relay.url) as client,
        running_store(client) as store,
    ):
        await until(lambda: token_of(store, key) == "one" and store.connector(deleted_key) is not None)
        relay.freeze()
        relay.drop()
        fill(plane, "two", namespace)
        plane.kubectl("delete", "connector", "gone", namespace=namespace)
        plane.kubectl("create", "configmap", "more", namespace=namespace)
        plane.etcd.compact()
        plane.restart_apiserver()
        relay.thaw()
        await until(lambda: token_of(store, key) == "two" and store.connector(deleted_key) is None)
    messages = lines(caplog, logging.INFO)
    assert any("HTTP 410" in each for each in messages), messages


async def test_a_watch_that_died_silently_is_restarted(plane: ControlPlane, own_namespace: str) -> None:
    key = ObjectKey(own_namespace, "k8s")
    plane.api.apply(secret("k8s-secret", token="one"), connector("k8s"), namespace=own_namespace)
    async with (
        TcpRelay(plane.url).serving() as relay,
        proxy_client(plane, server=relay.url) as client,
        running_store(client, watch_timeout=2) as store,
    ):
        await until(lambda: token_of(store, key) == "one")
        relay.freeze()
        plane.api.apply(secret("k8s-secret", token="two"), namespace=own_namespace)
        before = relay.accept_count
        await until(lambda: relay.accept_count > before, "new connections, though the old ones are still open")
        assert token_of(store, key) == "one"
        relay.thaw()
        await until(lambda: token_of(store, key) == "two")


async def test_the_source_waits_for_a_paused_api_server(
    disturbed_plane: ControlPlane, disturbed_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane, namespace = disturbed_plane, disturbed_namespace
    key = ObjectKey(namespace, "k8s")
    fill(plane, "one", namespace)
    caller = plane.issue_token(namespace, "default", audiences=[AUDIENCE])
    grant_use(plane, namespace, subject=account_subject(namespace))
    async with proxy_client(plane) as client, running_store(client, watch_timeout=2) as store:
        access = KubeAccess(client, audience=AUDIENCE, rule=RULE, recheck=600)
        await until(lambda: token_of(store, key) == "one")
        with monkeypatch.context() as patience:
            patience.setattr(REVIEW_TIMEOUT, TIMEOUT)
            assert isinstance(await access.check(caller, key), Granted)
        plane.pause()
        try:
            assert isinstance(await access.check("x" + caller, key), Unavailable)
            assert isinstance(access.check_cached(caller, key), Granted)
            assert token_of(store, key) == "one"
        finally:
            plane.resume()
        fill(plane, "two", namespace)
        await until(lambda: token_of(store, key) == "two")


def install_without_a_right(plane: ControlPlane) -> None:
    install(plane)
    plane.kubectl("delete", "clusterrolebinding", "connectors-proxy-namespace")
    # A watch that begins before this stays open without the right.
    wait_for_rbac(plane.api)


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        pytest.param(install_roles, 2, id="a definition is missing"),
        # Connectors, and the two watches of Secrets: by type, and of the others' metadata.
        pytest.param(install_without_a_right, 3, id="Secrets and Connectors are forbidden"),
    ],
)
async def test_missing_rights_at_the_start_are_logged_once(
    private_control_plane: ControlPlane,
    caplog: pytest.LogCaptureFixture,
    prepare: Callable[[ControlPlane], None],
    named: int,
) -> None:
    plane = private_control_plane
    prepare(plane)
    plane.create_namespace(KEY.namespace)
    async with (
        FrontProxy(plane).serving() as front,
        proxy_client(plane, server=front.url) as client,
        running_store(client) as store,
    ):
        await until(lambda: front.requested.count("connectors") >= 4, "it is tried again and again")
        await until(lambda: len(advice(caplog)) >= named, "each watch to have been tried")
        assert not store.synced
        assert once(lines(caplog)), lines(caplog)
        assert len(advice(caplog)) == named
        install_definitions(plane)
        install_roles(plane)
        fill(plane, "one")
        await until(lambda: store.synced and token_of(store, KEY) == "one")


async def test_a_server_without_streaming_lists_is_listed_in_pages(cluster_programs: Path, tmp_path: Path) -> None:
    without = ["--feature-gates=WatchList=false"]
    with ControlPlane(tmp_path / "control-plane", programs=cluster_programs, arguments=without) as plane:
        install_definitions(plane)
        install_roles(plane)
        plane.create_namespace(KEY.namespace)
        fill(plane, "one")
        async with proxy_client(plane) as client, running_store(client) as store:
            await until(lambda: store.synced)
            assert token_of(store, KEY) == "one"
            fill(plane, "two")
            await until(lambda: token_of(store, KEY) == "two")


@pytest.mark.parametrize(
    ("review", "status", "retry_after"),
    [
        pytest.param("tokenreviews", 429, 7, id="429 with a time to wait"),
        pytest.param("tokenreviews", 500, 7, id="500"),
        pytest.param("tokenreviews", FrontProxy.SILENT, 1, id="no answer"),
        pytest.param("subjectaccessreviews", 429, 7, id="429 to the second question"),
        pytest.param("subjectaccessreviews", 500, 7, id="500 to the second question"),
    ],
)
async def test_failed_reviews(
    plane: ControlPlane,
    own_namespace: str,
    review: str,
    status: int,
    retry_after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = ObjectKey(own_namespace, "k8s")
    grant_use(plane, own_namespace, subject=account_subject(own_namespace))
    caller = plane.issue_token(own_namespace, "default", audiences=[AUDIENCE])
    async with FrontProxy(plane).serving() as front, proxy_client(plane, server=front.url) as client:
        access = KubeAccess(client, audience=AUDIENCE, rule=RULE)
        if status != FrontProxy.SILENT:
            monkeypatch.setattr(REVIEW_TIMEOUT, TIMEOUT)
        front.statuses[review] = status
        answer = await access.check(caller, key)
        assert isinstance(answer, Unavailable)
        assert answer.retry_after == retry_after
        front.statuses.clear()
        monkeypatch.setattr(REVIEW_TIMEOUT, TIMEOUT)
        granted = await access.check(caller, key)
        assert isinstance(granted, Granted)
        front.statuses[review] = status
        assert isinstance(access.check_cached(caller, key), Granted)
