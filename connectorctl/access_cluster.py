"""AccessRequests, AccessApprovals and AccessLocks in a cluster: what the commands read and write there."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import parse_time
from connector_store.domain.config.connector_source import FolderSource
from connector_store.domain.objects.access_objects import AccessPolicy
from connector_store.domain.objects.manifest_access import parse_access_policy, parse_access_request
from connector_store.domain.permissions.permissions import RoleEntry
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import ACCESS_APPROVALS, ACCESS_POLICIES, ACCESS_REQUESTS, CONNECTORS, Resource
from connectorctl.access_manifests import make_approval
from connectorctl.access_rows import NOT_ENFORCED, RequestRow, parse_row
from connectorctl.cluster_source import run_with_client
from connectorctl.invocation import Invocation
from connectorctl.missing_crd import explain_missing_crd
from connectorctl.option_values import SourceOptions
from connectorctl.source import resolve_source

_SELF_SUBJECT_REVIEWS: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_SELF_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Author:
    """User that the API server authenticates this program as."""

    user: str
    groups: frozenset[str]


def run_in_cluster[T](
    source_options: SourceOptions, invocation: Invocation, work: Callable[[KubeClient], Awaitable[T]]
) -> T:
    """Return the result of `work`. A folder as the source is a usage error."""
    source = resolve_source(source_options, invocation)
    if isinstance(source, FolderSource):
        raise click.UsageError("--source: access requests need a cluster; write --source kubernetes")
    return asyncio.run(run_with_client(source_options, source, work))


async def get_author(client: KubeClient) -> Author:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    info = (await client.create(_SELF_SUBJECT_REVIEWS, body))["status"]["userInfo"]
    return Author(info["username"], frozenset(info.get("groups") or ()))


async def create(client: KubeClient, resource: Resource, manifest: dict[str, Any]) -> dict[str, Any]:
    with explain_missing_crd(resource):
        return await client.create(resource.path(manifest["metadata"]["namespace"]), manifest)


async def get(client: KubeClient, resource: Resource, key: ObjectKey) -> dict[str, Any]:
    with explain_missing_crd(resource):
        return await client.get(resource.path(*key))


async def delete(client: KubeClient, resource: Resource, key: ObjectKey) -> None:
    with explain_missing_crd(resource):
        await client.delete(resource.path(*key))


async def list_objects(client: KubeClient, resource: Resource, namespace: str | None) -> list[dict[str, Any]]:
    """List objects of a namespace (None: all), in the order of their creation."""
    with explain_missing_crd(resource):
        items = await client.list_objects(resource.path(namespace))
    return sorted(items, key=lambda raw: raw["metadata"].get("creationTimestamp") or "")


async def load_rows(client: KubeClient, namespace: str | None) -> list[RequestRow]:
    """Load the rows of the requests of a namespace (None: all)."""
    try:
        requests, approvals, policies = [
            await list_objects(client, resource, namespace)
            for resource in (ACCESS_REQUESTS, ACCESS_APPROVALS, ACCESS_POLICIES)
        ]
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN or namespace is not None:
            raise
        raise ApiError(error.status, f"{error.message}; name a namespace with -n", reason=error.reason) from error
    return [parse_row(raw, approvals, policies) for raw in requests]


async def load_own_roles(client: KubeClient, connector: ObjectKey) -> list[tuple[RoleEntry, ...]]:
    """Return the ClusterRoles that each approved request of the user adds to those of a Connector.

    It goes by the status of the requests. Those for a pod, and those that the user cannot list, do not count.
    """
    try:
        author = await get_author(client)
        items = await list_objects(client, ACCESS_REQUESTS, connector.namespace)
    except ApiError as error:
        if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            return []
        raise
    now = client.clock.now()
    rows = [(parse_row(raw), parse_access_request(raw)) for raw in items]
    return [
        request.roles
        for row, request in rows
        if row.is_ready
        and request.pod is None
        and (row.subject, row.connector) == (author.user, connector.name)
        and (parse_time(row.until) or 0.0) > now
        and request.roles
    ]


def list_keys(
    resource: Resource, namespace: str | None, source_options: SourceOptions, invocation: Invocation
) -> Iterator[str]:
    """List NAMESPACE/NAME of the objects of a namespace (None: all)."""
    items = run_in_cluster(source_options, invocation, lambda client: list_objects(client, resource, namespace))
    return (f"{raw['metadata']['namespace']}/{raw['metadata']['name']}" for raw in items)


async def decide(
    client: KubeClient,
    key: ObjectKey,
    decision: Literal["Approved", "Denied"],
    *,
    policy_name: str | None,
    comment: str | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Create an AccessApproval for a request. Return the request and the approval.

    Raises ParseError if proxies would ignore the approval: if the author is the requester or the subject, and if the
    request is older than the proof of the admission policies.
    """
    request = await get(client, ACCESS_REQUESTS, key)
    row = parse_row(request)
    if row.state == NOT_ENFORCED:
        raise ParseError(
            "",
            f"{key} does not count, because the admission policies have changed since, or were not in force; "
            f"delete it and ask again: connectorctl cancel {key}",
        )
    author = await get_author(client)
    if author.user in (request["spec"].get("requester"), row.subject):
        raise ParseError(
            "",
            f"you are the requester or the subject of {key}, so your decision does not count; "
            f"ask another user, or delete the request: connectorctl cancel {key}",
        )
    policy = await _choose_policy(client, request, policy_name)
    approval = make_approval(request, policy, by=author.user, decision=decision, comment=comment)
    return request, await create(client, ACCESS_APPROVALS, approval)


async def _choose_policy(client: KubeClient, request: dict[str, Any], name: str | None) -> dict[str, Any]:
    """Return the policy `name`, or the only one that can judge the request and that the author may approve for."""
    namespace, connector = request["metadata"]["namespace"], request["spec"]["connectorRef"]["name"]
    if name is not None:
        return await get(client, ACCESS_POLICIES, ObjectKey(namespace, name))
    labels = await _connector_labels(client, ObjectKey(namespace, connector))
    policies = [
        raw
        for raw in await list_objects(client, ACCESS_POLICIES, namespace)
        if _may_judge(parse_access_policy(raw), connector, labels)
    ]
    if len(policies) > 1:
        policies = [
            raw for raw in policies if await may(client, "approve", ACCESS_POLICIES, namespace, raw["metadata"]["name"])
        ]
    match policies:
        case [policy]:
            return policy
        case []:
            raise ParseError(
                "",
                f'no AccessPolicy in namespace "{namespace}" lets you decide on this request; '
                "ask an administrator for the verb approve on one",
            )
    names = ", ".join(raw["metadata"]["name"] for raw in policies)
    raise ParseError("", f"several AccessPolicies apply; name one with --policy: {names}")


async def _connector_labels(client: KubeClient, key: ObjectKey) -> dict[str, str] | None:
    """Return the labels of the Connector, or None if the author cannot read it."""
    try:
        return (await client.get(CONNECTORS.path(*key)))["metadata"].get("labels") or {}
    except ApiError:
        return None


def _may_judge(policy: AccessPolicy, connector: str, labels: dict[str, str] | None) -> bool:
    if policy.approval is None or policy.problems or policy.is_deleted:
        return False
    names = policy.connector.names
    return policy.connector.matches(connector, labels) if labels is not None else not names or connector in names


async def may(client: KubeClient, verb: str, resource: Resource, namespace: str = "", name: str = "") -> bool:
    """Return whether the author has the right. An empty namespace stands for all, and an empty name for all objects."""
    attributes = {
        "verb": verb,
        "group": resource.group,
        "version": resource.version,
        "resource": resource.plural,
        "namespace": namespace,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return (await client.create(_SELF_ACCESS_REVIEWS, review))["status"].get("allowed") is True
