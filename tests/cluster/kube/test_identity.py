"""The rights of the proxy's own identity: those that it needs, and no others."""

import itertools
from typing import Any

import pytest

from connector_store.kube.client import KubeClient
from lab.control_plane import ControlPlane
from tests.cluster.kube.installation import SYSTEM, proxy_client

Attributes = tuple[str, str, str, str]
"""verb, group, resource[/subresource], namespace (empty: all of them, or cluster scope)"""

CONNECTORS = "connectors.alauda.io"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")

ACCESS_KINDS = ("accesspolicies", "accessrequests", "accessapprovals", "accesslocks")

NEEDED: frozenset[Attributes] = frozenset(
    {
        ("create", "authentication.k8s.io", "tokenreviews", ""),
        ("create", "authorization.k8s.io", "subjectaccessreviews", ""),
        *(
            (verb, CONNECTORS, kind, "")
            for verb in ("list", "watch")
            for kind in ("connectors", "connectorclasses", *ACCESS_KINDS)
        ),
        # Labels, by which an AccessPolicy selects ServiceAccounts.
        *((verb, "", "namespaces", "") for verb in ("list", "watch")),
        *((verb, "", "secrets", "") for verb in ("list", "watch")),
        # Whose the Services are that kubeconfigs name.
        ("list", "", "services", ""),
        # The check that a live connection's caller still exists after its token expired.
        *(("get", "", kind, "") for kind in ("pods", "serviceaccounts")),
        *((verb, "rbac.authorization.k8s.io", "clusterroles", "") for verb in ("list", "watch")),
        *((verb, "", "secrets", SYSTEM) for verb in ("list", "watch")),
    }
)

_GROUPS = {
    CONNECTORS: ("connectors", "connectors/status", "connectors/proxy", "connectorclasses", *ACCESS_KINDS),
    "": (
        *("secrets", "configmaps", "services", "pods", "pods/exec", "pods/log", "serviceaccounts"),
        *("serviceaccounts/token", "namespaces", "nodes", "nodes/proxy", "events"),
    ),
    "apps": ("deployments", "daemonsets"),
    "coordination.k8s.io": ("leases",),
    "rbac.authorization.k8s.io": ("roles", "rolebindings", "clusterroles", "clusterrolebindings"),
    "apiextensions.k8s.io": ("customresourcedefinitions",),
    "authentication.k8s.io": ("tokenreviews",),
    "authorization.k8s.io": ("subjectaccessreviews",),
    "admissionregistration.k8s.io": ("mutatingwebhookconfigurations", "validatingadmissionpolicies"),
    "certificates.k8s.io": ("certificatesigningrequests",),
}
OTHERS = [
    (group, kind, namespace)
    for group, kinds in _GROUPS.items()
    for kind in kinds
    for namespace in ("", SYSTEM, "default")
]


async def allowed(client: KubeClient, attributes: Attributes, *, name: str = "") -> bool:
    verb, group, kind, namespace = attributes
    resource, _, subresource = kind.partition("/")
    spec: dict[str, Any] = {
        "resourceAttributes": {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
        }
    }
    answer = await client.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {"spec": spec})
    return answer["status"].get("allowed") is True


def covered(attributes: Attributes) -> bool:
    verb, group, kind, _ = attributes
    return attributes in NEEDED or (verb, group, kind, "") in NEEDED


async def test_it_may_do_what_it_needs(plane: ControlPlane) -> None:
    async with proxy_client(plane) as client:
        assert [each for each in sorted(NEEDED) if not await allowed(client, each)] == []


async def test_it_may_read_settings_and_the_proof_of_admission_and_no_other_configmap(plane: ControlPlane) -> None:
    async with proxy_client(plane) as client:
        rights = {"connectors-config": True, "connectors-admission": True, "connectors-ca": False, "": False}
        for name, right in rights.items():
            assert await allowed(client, ("list", "", "configmaps", SYSTEM), name=name) is right, name


async def test_it_may_do_nothing_else(plane: ControlPlane) -> None:
    verbs = (*VERBS, "impersonate", "escalate", "bind", "use", "*")
    attributes = [(verb, *other) for verb, other in itertools.product(verbs, OTHERS)]
    async with proxy_client(plane) as client:
        assert [each for each in attributes if not covered(each) and await allowed(client, each)] == []


@pytest.mark.parametrize("kind", ["users", "groups", "serviceaccounts", "userextras"])
async def test_it_cannot_impersonate(plane: ControlPlane, kind: str) -> None:
    async with proxy_client(plane) as client:
        assert not await allowed(client, ("impersonate", "", kind, ""))
