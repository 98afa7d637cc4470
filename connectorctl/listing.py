"""A cluster's objects -> the store, once: the same lists that the proxy follows by watches."""

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.credential_kinds import SECRET_SELECTORS
from connector_store.domain.objects.models import Connector
from connector_store.domain.status.status import Condition, parse_status
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CA_SECRETS, CLUSTER_ROLES, CONNECTOR_CLASSES, CONNECTORS, SECRETS, Resource
from connector_store.kube.sinks import make_parser
from connector_store.store import Store, StoreObject


async def fill_store(
    store: Store, client: KubeClient, *, system_namespace: str, namespace: str | None
) -> Mapping[ObjectKey, Condition]:
    """List Connectors and Secrets of `namespace` (None: all), classes, and the CAs for every Connector.

    Returns the condition Ready of each Connector that has one.
    """
    queries: tuple[tuple[Resource, str | None, Mapping[str, str]], ...] = (
        (CONNECTOR_CLASSES, None, {}),
        (CONNECTORS, namespace, {}),
        *((SECRETS, namespace, {"fieldSelector": each}) for each in SECRET_SELECTORS),
        (SECRETS, system_namespace, {"labelSelector": CA_SECRETS}),
    )
    parse = make_parser(system_namespace)
    ready: dict[ObjectKey, Condition] = {}
    for index, (resource, query_namespace, selector) in enumerate(queries):
        items = await _list(client, resource, query_namespace, selector)
        store.replace(f"list {index}", [each for raw in items if (each := parse(raw)) is not None])
        if resource is CONNECTORS:
            ready = dict(_ready_conditions(items))
    store.replace("named", await _get_named_secrets(store, client, system_namespace))
    store.replace("roles", await _get_roles(store, client, system_namespace))
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
        raise missing_crd_error(resource, error) or error from error
    return [{**raw, **kind} for page in pages for raw in page["items"]]


def missing_crd_error(resource: Resource, error: ApiError) -> ApiError | None:
    """What to say where an API server does not know a resource of ours; None for every other refusal.

    It answers so for the whole resource; of an object that is not there it names the object.
    """
    if error.status != HTTPStatus.NOT_FOUND or resource.group != CONNECTORS.group or '"' in error.message:
        return None
    return ApiError(
        0, f"the CustomResourceDefinition {resource} is not installed in this cluster; install it: docs/quickstart.md"
    )


def _ready_conditions(items: list[dict[str, Any]]) -> Iterator[tuple[ObjectKey, Condition]]:
    for raw in items:
        condition = parse_status(raw).ready
        if condition is not None:
            yield ObjectKey(raw["metadata"]["namespace"], raw["metadata"]["name"]), condition


async def _get_named_secrets(store: Store, client: KubeClient, system_namespace: str) -> list[StoreObject]:
    """Secrets of other types that Connectors name."""
    return await _get_objects(
        client, [SECRETS.path(*key) for key in sorted(_missing_secret_keys(store))], system_namespace
    )


async def _get_roles(store: Store, client: KubeClient, system_namespace: str) -> list[StoreObject]:
    """ClusterRoles that Connectors name."""
    permissions = [each.permissions for each in store.connectors() if isinstance(each, Connector) and each.permissions]
    names = sorted({name for each in permissions for name in each.role_names})
    return await _get_objects(client, [CLUSTER_ROLES.path(None, name) for name in names], system_namespace)


async def _get_objects(client: KubeClient, paths: Sequence[str], system_namespace: str) -> list[StoreObject]:
    """The objects at these paths, but for those that are not there."""
    parse = make_parser(system_namespace)
    objects: list[StoreObject] = []
    for path in paths:
        try:
            raw = await client.get(path)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            continue
        objects += [each for each in [parse(raw)] if each is not None]
    return objects


def _missing_secret_keys(store: Store) -> set[ObjectKey]:
    secret_keys = (key for each in store.connectors() if isinstance(each, Connector) for key in each.secret_keys)
    return {key for key in secret_keys if store.secret(key) is None}
