"""A cluster's objects -> the store, once: the same lists that the proxy follows by watches."""

from collections.abc import Mapping
from http import HTTPStatus

from connector_store.domain.auth import SELECTORS
from connector_store.domain.models import Connector
from connector_store.domain.names import ObjectKey
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CA_SECRETS, CONNECTOR_CLASSES, CONNECTORS, SECRETS, Resource
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
    parse = parser(system_namespace)
    found: list[Object] = []
    for key in sorted(_missing(store)):
        try:
            raw = await client.get(SECRETS.path(key.namespace, key.name))
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            continue
        found += [each for each in [parse(raw)] if each is not None]
    return found


def _missing(store: Store) -> set[ObjectKey]:
    named = (key for each in store.connectors() if isinstance(each, Connector) for key in each.secret_keys)
    return {key for key in named if store.secret(key) is None}
