"""A cluster's objects -> the store, once: the same lists that the proxy follows by watches."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.auth import SECRET_SELECTORS
from connector_store.domain.objects.models import Connector
from connector_store.domain.status.status import Condition, parse_status
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CA_SECRETS, CLUSTER_ROLES, CONNECTOR_CLASSES, CONNECTORS, SECRETS, Resource
from connector_store.kube.sinks import make_parser
from connector_store.store import Store, StoreObject


async def fill(
    store: Store, client: KubeClient, *, system_namespace: str, namespace: str | None
) -> Mapping[ObjectKey, Condition]:
    """List Connectors and Secrets of `namespace` (None: all), classes, and the CAs for every Connector.

    Returns the condition Ready of each Connector that has one.
    """
    wanted: tuple[tuple[Resource, str | None, Mapping[str, str]], ...] = (
        (CONNECTOR_CLASSES, None, {}),
        (CONNECTORS, namespace, {}),
        *((SECRETS, namespace, {"fieldSelector": each}) for each in SECRET_SELECTORS),
        (SECRETS, system_namespace, {"labelSelector": CA_SECRETS}),
    )
    parse = make_parser(system_namespace)
    ready: dict[ObjectKey, Condition] = {}
    for number, (resource, place, selector) in enumerate(wanted):
        items = await _list(client, resource, place, selector)
        store.replace(f"list {number}", [each for raw in items if (each := parse(raw)) is not None])
        if resource is CONNECTORS:
            ready = dict(_ready(items))
    store.replace("named", await _named(store, client, system_namespace))
    store.replace("roles", await _roles(store, client, system_namespace))
    return ready


async def _list(
    client: KubeClient, resource: Resource, namespace: str | None, selector: Mapping[str, str]
) -> list[dict[str, Any]]:
    version = f"{resource.group}/{resource.version}" if resource.group else resource.version
    # The items of a list have neither apiVersion nor kind.
    kind = {"apiVersion": version, "kind": resource.kind}
    try:
        pages = [page async for page in client.list_pages(resource.path(namespace), selector)]
    except ApiError as error:
        raise missing_definition(resource, error) or error from error
    return [{**raw, **kind} for page in pages for raw in page["items"]]


def missing_definition(resource: Resource, error: ApiError) -> ApiError | None:
    """What to say where an API server does not know a resource of ours; None for every other refusal.

    It answers so for the whole resource; of an object that is not there it names the object.
    """
    if error.status != HTTPStatus.NOT_FOUND or resource.group != CONNECTORS.group or '"' in error.message:
        return None
    return ApiError(
        0, f"the CustomResourceDefinition {resource} is not installed in this cluster; install it: docs/quickstart.md"
    )


def _ready(items: list[dict[str, Any]]) -> Iterator[tuple[ObjectKey, Condition]]:
    for raw in items:
        condition = parse_status(raw).ready
        if condition is not None:
            yield ObjectKey(raw["metadata"]["namespace"], raw["metadata"]["name"]), condition


async def _named(store: Store, client: KubeClient, system_namespace: str) -> list[StoreObject]:
    """Secrets of other types that Connectors name."""
    return await _each(client, [SECRETS.path(*key) for key in sorted(_missing(store))], system_namespace)


async def _roles(store: Store, client: KubeClient, system_namespace: str) -> list[StoreObject]:
    """ClusterRoles that Connectors name."""
    limits = [each.permissions for each in store.connectors() if isinstance(each, Connector) and each.permissions]
    names = sorted({name for each in limits for name in each.role_names})
    return await _each(client, [CLUSTER_ROLES.path(None, name) for name in names], system_namespace)


async def _each(client: KubeClient, paths: Sequence[str], system_namespace: str) -> list[StoreObject]:
    """The objects at these paths, but for those that are not there."""
    parse = make_parser(system_namespace)
    found: list[StoreObject] = []
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
