"""Details of one Connector from a cluster: conditions, events, and the subjects that may use it."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from connector_store.boot_time import boot_time
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.grants.access_index import AccessClock
from connector_store.domain.permissions.bindings import (
    Bindings,
    parse_cluster_role_binding,
    parse_role,
    parse_role_binding,
)
from connector_store.domain.permissions.rbac import parse_cluster_role
from connector_store.domain.status.status import parse_status
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError, suppress_status
from connector_store.kube.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CONNECTORS,
    EVENTS,
    ROLE_BINDINGS,
    ROLES,
)
from connector_store.store import Store
from connectorctl.description import ConnectorDetails
from connectorctl.inventory import Inventory
from connectorctl.listing import fill_store

MAX_EVENTS: Final = 10
"""Maximum number of events to show."""


async def read_details(client: KubeClient, key: ObjectKey, settings: Settings) -> ConnectorDetails:
    """Return the details of a Connector. Raises ApiError if it does not exist or cannot be read."""
    raw = await client.get(CONNECTORS.path(key.namespace, key.name))
    store = Store(clock=AccessClock(client.clock.now, boot_time))
    ready = await fill_store(store, client, system_namespace=settings.system_namespace, namespace=key.namespace)
    return ConnectorDetails(
        inventory=Inventory(store=store, ready_conditions=ready),
        callers=await _read_callers(client, key, settings),
        conditions=parse_status(raw).conditions,
        events=await _read_events(client, key),
        kubeconfig_command=f"connectorctl kubeconfig {key} --source kubernetes --service-account NAMESPACE/NAME",
    )


async def _read_callers(client: KubeClient, key: ObjectKey, settings: Settings) -> Sequence[str]:
    """Return the subjects of RBAC that may use the Connector, or one text if the rights to list them are missing."""
    try:
        bindings = Bindings(
            cluster_roles=[parse_cluster_role(raw) for raw in await client.list_objects(CLUSTER_ROLES.path())],
            roles=[
                parse_role(raw, default_namespace=key.namespace)
                for raw in await client.list_objects(ROLES.path(key.namespace))
            ],
            bindings=[
                *(
                    parse_role_binding(raw, default_namespace=key.namespace)
                    for raw in await client.list_objects(ROLE_BINDINGS.path(key.namespace))
                ),
                *(parse_cluster_role_binding(raw) for raw in await client.list_objects(CLUSTER_ROLE_BINDINGS.path())),
            ],
        )
    except (ApiError, ParseError) as error:
        if isinstance(error, ApiError) and error.status != HTTPStatus.FORBIDDEN:
            raise
        return [f"cannot be listed: {error}"]
    return [str(subject) for subject in bindings.subjects(settings.access, key)]


async def _read_events(client: KubeClient, key: ObjectKey) -> list[dict[str, str]]:
    """Return the newest events about the Connector. Without the right to list events, there are none."""
    selector = {"fieldSelector": f"regarding.kind=Connector,regarding.name={key.name}"}
    with suppress_status(HTTPStatus.FORBIDDEN):
        items = await client.list_objects(EVENTS.path(key.namespace), selector)
        return sorted(map(_event, items), key=lambda event: event["time"], reverse=True)[:MAX_EVENTS]
    return []


def _event(raw: dict[str, Any]) -> dict[str, str]:
    last = raw.get("series", {}).get("lastObservedTime") or raw.get("eventTime") or raw["metadata"]["creationTimestamp"]
    fields = (("type", "type"), ("reason", "reason"), ("message", "note"))
    return {"time": last[:19] + "Z", **{name: raw.get(field, "") for name, field in fields}}
