"""The store follows a real API server, with the proxy's own identity."""

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target
from lab.control_plane import ControlPlane
from tests.cluster.kube.cluster_store import running_store, token_of, unusable_reason
from tests.cluster.kube.installation import connector, proxy_client, secret
from tests.fakes.waiting import until


async def test_follows_a_connector_and_its_secret_through_their_lives(plane: ControlPlane, own_namespace: str) -> None:
    key = ObjectKey(own_namespace, "k8s")
    async with proxy_client(plane) as client, running_store(client) as store:
        await until(lambda: store.synced)
        plane.api.apply(secret("k8s-secret", token="one"), connector("k8s"), namespace=own_namespace)
        await until(lambda: token_of(store, key) == "one")
        plane.api.apply(secret("k8s-secret", token="two"), namespace=own_namespace)
        await until(lambda: token_of(store, key) == "two")
        plane.api.apply(connector("k8s", address="https://192.0.2.2:6443/x"), namespace=own_namespace)
        await until(lambda: isinstance(target := store.get(key), Target) and target.address.prefix == "/x")
        plane.kubectl("delete", "secret", "k8s-secret", namespace=own_namespace)
        await until(lambda: unusable_reason(store, key) == "SecretNotFound")
        plane.kubectl("delete", "connector", "k8s", namespace=own_namespace)
        await until(lambda: store.get(key) is None)


async def test_what_is_there_before_the_start_is_there_when_synced(plane: ControlPlane, own_namespace: str) -> None:
    plane.api.apply(secret("k8s-secret", token="one"), connector("k8s"), namespace=own_namespace)
    async with proxy_client(plane) as client, running_store(client) as store:
        await until(lambda: store.synced)
        assert token_of(store, ObjectKey(own_namespace, "k8s")) == "one"


async def test_an_invalid_connector_does_not_affect_others(plane: ControlPlane, own_namespace: str) -> None:
    good, bad, worse = (ObjectKey(own_namespace, name) for name in ("good", "bad", "worse"))
    nested: object = "deep"
    for _ in range(400):
        nested = [nested]
    plane.api.apply(
        secret("k8s-secret", token="one"),
        secret("broken", token="two\nlines"),
        connector("good"),
        connector("bad", secret="broken"),
        connector("worse", address="https://192.0.2.1:99999", params=[{"name": "deep", "value": nested}]),
        namespace=own_namespace,
    )
    async with proxy_client(plane) as client, running_store(client) as store:
        await until(lambda: store.synced)
        assert token_of(store, good) == "one"
        assert (unusable_reason(store, bad), unusable_reason(store, worse)) == ("SecretInvalid", "AddressInvalid")
        plane.api.apply(secret("k8s-secret", token="later"), namespace=own_namespace)
        plane.api.apply(connector("late", secret="broken"), namespace=own_namespace)
        await until(lambda: token_of(store, good) == "later")
        await until(lambda: unusable_reason(store, ObjectKey(own_namespace, "late")) == "SecretInvalid")


async def test_a_secret_of_another_type_is_read_by_its_name(plane: ControlPlane, own_namespace: str) -> None:
    key = ObjectKey(own_namespace, "k8s")
    plane.api.apply(secret("k8s-secret", kind="Opaque", token="one"), connector("k8s"), namespace=own_namespace)
    plane.api.apply(secret("unrelated", kind="Opaque", token="two"), namespace=own_namespace)
    async with proxy_client(plane) as client, running_store(client) as store:
        await until(lambda: unusable_reason(store, key) == "SecretTypeMismatch")
        assert store.secret(ObjectKey(own_namespace, "unrelated")) is None
        plane.kubectl("delete", "secret", "k8s-secret", namespace=own_namespace)
        await until(lambda: unusable_reason(store, key) == "SecretNotFound")
        plane.api.apply(secret("k8s-secret", token="three"), namespace=own_namespace)
        await until(lambda: token_of(store, key) == "three")
