"""A cluster's objects -> the store, once: the same lists that the proxy follows by watches."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from connector_store.domain.auth import SELECTORS
from connector_store.domain.models import Connector
from connector_store.domain.names import ObjectKey
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CA_SECRETS, CLUSTER_ROLES, CONNECTOR_CLASSES, CONNECTORS, SECRETS, Resource
from connector_store.kube.sinks import parser
from connector_store.store import Object, Store


async def fill(store: Store, client: KubeClient, *, system_namespace: str, namespace: str | None) -> None:
    """List Connectors and Secrets of `namespace` (None: all), classes, and the CAs for every Connector."""
    wanted: tuple[tuple[Resource, str | None, Mapping[str, str]], ...] = (
        (CONNECTOR_CLASSES, None, {}),
        (CONNECTORS, namespace, {}),
        *((SECRETS, namespace, {"fieldSelector": each}) for each in SELECTORS),
        (SECRETS, system_namespace, {"labelSelector": CA_SECRETS}),
    )
    for number, (resource, place, selector) in enumerate(wanted):
        store.replace(f"list {number}", await _list(client, resource, place, selector, system_namespace))
    store.replace("named", await _named(store, client, system_namespace))
    store.replace("roles", await _roles(store, client, system_namespace))


async def _list(
    client: KubeClient, resource: Resource, namespace: str | None, selector: Mapping[str, str], system_namespace: str
) -> list[Object]:
    parse = parser(system_namespace)
    version = f"{resource.group}/{resource.version}" if resource.group else resource.version
    # The items of a list have neither apiVersion nor kind.
    kind = {"apiVersion": version, "kind": resource.kind}
    found: list[Object] = []
    async for page in client.list_pages(resource.path(namespace), selector):
        found += [each for raw in page["items"] if (each := parse({**raw, **kind})) is not None]
    return found


async def _named(store: Store, client: KubeClient, system_namespace: str) -> list[Object]:
    """Secrets of other types that Connectors name."""
    return await _each(client, [SECRETS.path(*key) for key in sorted(_missing(store))], system_namespace)


async def _roles(store: Store, client: KubeClient, system_namespace: str) -> list[Object]:
    """ClusterRoles that Connectors name."""
    limits = [each.permissions for each in store.connectors() if isinstance(each, Connector) and each.permissions]
    names = sorted({name for each in limits for name in each.role_names})
    return await _each(client, [CLUSTER_ROLES.path(None, name) for name in names], system_namespace)


async def _each(client: KubeClient, paths: Sequence[str], system_namespace: str) -> list[Object]:
    """The objects at these paths, but for those that are not there."""
    parse = parser(system_namespace)
    found: list[Object] = []
    for path in paths:
        try:
            raw = await client.get(path)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            continue
        found += [each for each in [parse(raw)] if each is not None]
    return found


def _missing(store: Store) -> set[ObjectKey]:
    named = (key for each in store.connectors() if isinstance(each, Connector) for key in each.secret_keys)
    return {key for key in named if store.secret(key) is None}
