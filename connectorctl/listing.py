"""Filling of the store from a cluster, once, with the same lists that the proxy watches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.credential_kinds import SECRET_SELECTORS
from connector_store.domain.objects.models import Connector
from connector_store.domain.status.status import Condition, parse_status
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import suppress_status
from connector_store.kube.resources import (
    ACCESS_LOCKS,
    CA_SECRETS,
    CLUSTER_ROLES,
    CONNECTOR_CLASSES,
    CONNECTORS,
    SECRETS,
    Resource,
)
from connector_store.kube.sinks import make_parser
from connector_store.store import Store, StoreObject
from connectorctl.missing_crd import explain_missing_crd


async def fill_store(
    store: Store, client: KubeClient, *, system_namespace: str, namespace: str | None
) -> Mapping[ObjectKey, Condition]:
    """List Connectors, Secrets and locks of `namespace` (None: all), classes, and shared CAs into the store.

    Return the condition Ready of each Connector that has one.
    """
    store.access.system_namespace = system_namespace
    queries: tuple[tuple[Resource, str | None, Mapping[str, str]], ...] = (
        (CONNECTOR_CLASSES, None, {}),
        (CONNECTORS, namespace, {}),
        *((SECRETS, namespace, {"fieldSelector": selector}) for selector in SECRET_SELECTORS),
        (SECRETS, system_namespace, {"labelSelector": CA_SECRETS}),
    )
    parse = make_parser(system_namespace)
    ready: dict[ObjectKey, Condition] = {}
    for index, (resource, query_namespace, selector) in enumerate(queries):
        items = await _list(client, resource, query_namespace, selector)
        store.replace(f"list {index}", [obj for raw in items if (obj := parse(raw)) is not None])
        if resource is CONNECTORS:
            ready = dict(_ready_conditions(items))
    locks = await _list_locks(client, namespace, system_namespace)
    store.replace("locks", [obj for raw in locks if (obj := parse(raw)) is not None])
    store.replace("named", await _get_named_secrets(store, client, system_namespace))
    store.replace("roles", await _get_roles(store, client, system_namespace))
    return ready


async def _list(
    client: KubeClient, resource: Resource, namespace: str | None, selector: Mapping[str, str]
) -> list[dict[str, Any]]:
    kind = {"apiVersion": resource.api_version, "kind": resource.kind}
    with explain_missing_crd(resource):
        items = await client.list_objects(resource.path(namespace), selector)
    return [{**raw, **kind} for raw in items]


async def _list_locks(client: KubeClient, namespace: str | None, system_namespace: str) -> list[dict[str, Any]]:
    """List the AccessLocks that hold for a namespace (None: all) and that the user may list."""
    namespaces: Iterable[str | None] = (None,) if namespace is None else sorted({namespace, system_namespace})
    items: list[dict[str, Any]] = []
    for lock_namespace in namespaces:
        # A cluster with the definitions of an earlier release does not have this kind.
        with suppress_status(HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            items += await _list(client, ACCESS_LOCKS, lock_namespace, {})
    return items


def _ready_conditions(items: list[dict[str, Any]]) -> Iterator[tuple[ObjectKey, Condition]]:
    for raw in items:
        condition = parse_status(raw).ready
        if condition is not None:
            yield ObjectKey(raw["metadata"]["namespace"], raw["metadata"]["name"]), condition


async def _get_named_secrets(store: Store, client: KubeClient, system_namespace: str) -> list[StoreObject]:
    """Get the Secrets of other types that Connectors name."""
    return await _get_objects(
        client, [SECRETS.path(*key) for key in sorted(_missing_secret_keys(store))], system_namespace
    )


async def _get_roles(store: Store, client: KubeClient, system_namespace: str) -> list[StoreObject]:
    """Get the ClusterRoles that Connectors name."""
    permissions = [
        connector.permissions
        for connector in store.connectors()
        if isinstance(connector, Connector) and connector.permissions
    ]
    names = sorted({name for permission in permissions for name in permission.role_names})
    return await _get_objects(client, [CLUSTER_ROLES.path(None, name) for name in names], system_namespace)


async def _get_objects(client: KubeClient, paths: Sequence[str], system_namespace: str) -> list[StoreObject]:
    """Get the objects at these paths that exist."""
    parse = make_parser(system_namespace)
    objects: list[StoreObject] = []
    for path in paths:
        raw = await client.find(path)
        if raw is not None and (obj := parse(raw)) is not None:
            objects.append(obj)
    return objects


def _missing_secret_keys(store: Store) -> set[ObjectKey]:
    secret_keys = (
        key for connector in store.connectors() if isinstance(connector, Connector) for key in connector.secret_keys
    )
    return {key for key in secret_keys if store.secret(key) is None}
