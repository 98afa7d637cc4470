"""A namespace that the proxy may not read, with a real API server, and how long unwatched objects are served."""

from collections.abc import Mapping

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target
from lab.certificates import make_ca
from lab.control_plane import ControlPlane
from lab.rbac import wait_for_rbac
from tests.cluster.kube.cluster_store import running_store, token_of, unusable_reason
from tests.cluster.kube.installation import SYSTEM, connector, proxy_client, secret
from tests.fakes.waiting import until

EVERYWHERE = "connectors-proxy-namespace"


def bind(plane: ControlPlane, namespace: str) -> None:
    account = f"--serviceaccount={SYSTEM}:connectors-proxy"
    plane.kubectl("create", "rolebinding", "served", f"--clusterrole={EVERYWHERE}", account, namespace=namespace)
    wait_for_rbac(plane.api)


@pytest.fixture
def teams(private_plane: ControlPlane) -> Mapping[str, ObjectKey]:
    """Two namespaces, each with a Connector; the proxy's role is bound in the first alone."""
    plane = private_plane
    plane.kubectl("delete", "clusterrolebinding", EVERYWHERE)
    wait_for_rbac(plane.api)
    for namespace in ("team-a", "team-b"):
        plane.create_namespace(namespace)
        plane.api.apply(secret("k8s-secret", token="one"), connector("k8s"), namespace=namespace)
    bind(plane, "team-a")
    return {namespace: ObjectKey(namespace, "k8s") for namespace in ("team-a", "team-b", "never")}


async def test_a_namespace_that_is_not_bound_or_not_there_costs_that_namespace_only(
    private_plane: ControlPlane, teams: Mapping[str, ObjectKey]
) -> None:
    async with (
        proxy_client(private_plane) as client,
        running_store(client, namespaces=list(teams), watch_timeout=2, stale_after=6.0) as store,
    ):
        await until(lambda: store.synced)
        # Its watch may be too old for a moment on a busy machine.
        await until(lambda: token_of(store, teams["team-a"]) == "one", "the namespace with the right to be served")
        for namespace in ("team-b", "never"):
            assert unusable_reason(store, teams[namespace]) == "NamespaceNotServed"
        bind(private_plane, "team-b")
        await until(lambda: token_of(store, teams["team-b"]) == "one", "it to be served without a restart")
        private_plane.kubectl("delete", "rolebinding", "served", namespace="team-b")
        await until(
            lambda: unusable_reason(store, teams["team-b"]) == "NamespaceNotServed", "it to be unbound while running"
        )
        await until(lambda: token_of(store, teams["team-a"]) == "one", "the other to be served as before")


async def test_secrets_without_a_watch_are_not_served_after_the_limit(
    private_plane: ControlPlane,
) -> None:
    plane, key = private_plane, ObjectKey("team-a", "k8s")
    plane.create_namespace("team-a")
    plane.api.apply(secret("k8s-secret", token="one"), connector("k8s"), namespace="team-a")
    restarts = list[str]()
    async with (
        proxy_client(plane) as client,
        running_store(client, watch_timeout=2, stale_after=6.0, on_restart=restarts.append) as store,
    ):
        await until(lambda: token_of(store, key) == "one")
        plane.kubectl("delete", "clusterrolebinding", EVERYWHERE)
        plane.kubectl("delete", "secret", "k8s-secret", namespace="team-a")
        await until(lambda: unusable_reason(store, key) == "NotWatched")
        assert "Secret" in restarts, "a watch that is refused counts as one that broke"
        plane.kubectl(
            "create", "clusterrolebinding", "again", f"--clusterrole={EVERYWHERE}",
            f"--serviceaccount={SYSTEM}:connectors-proxy",
        )  # fmt: skip
        await until(lambda: unusable_reason(store, key) == "SecretNotFound", "the truth once it can be seen again")


async def test_no_ca_secret_of_a_namespace_is_left_out(plane: ControlPlane, own_namespace: str) -> None:
    pem = make_ca().pem.decode()
    numbers = range(60)
    plane.api.apply(
        secret("k8s-secret", token="one"),
        *(secret(f"ca-{number}", kind="Opaque", ca_crt=pem) for number in numbers),
        *(connector(f"k8s-{number}", caCertSecretRef={"name": f"ca-{number}"}) for number in numbers),
        *(connector(f"aaa-{number}", secret=f"aaa-{number}") for number in numbers),
        namespace=own_namespace,
    )
    keys = [ObjectKey(own_namespace, f"k8s-{number}") for number in numbers]
    async with proxy_client(plane) as client, running_store(client) as store:
        await until(lambda: store.synced)
        assert [key for key in keys if not isinstance(store.get(key), Target)] == []
        plane.kubectl("delete", "secret", "ca-59", namespace=own_namespace)
        await until(lambda: unusable_reason(store, keys[59]) == "SecretNotFound")
        plane.api.apply(secret("ca-59", kind="Opaque", ca_crt=pem), namespace=own_namespace)
        await until(lambda: isinstance(store.get(keys[59]), Target))
