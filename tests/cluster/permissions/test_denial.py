"""What `deny` denies, compared with a model of its own and a real API server."""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.permissions.evaluator import NotAllowed
from lab.control_plane import ControlPlane
from lab.rbac import wait_for_rbac
from tests.cluster.permissions.authorization_probe import AuthorizationProbe
from tests.cluster.permissions.denial_model import DenialModel
from tests.cluster.permissions.generated_requests import MERGE, NAMES, NAMESPACES, Request, roles, served_resources
from tests.cluster.permissions.kubernetes_parser import KubernetesParser
from tests.cluster.permissions.test_differential import Bound, attributes_of, create_namespaces

GENERATED = 6
ENTRIES_OF_COLLECTION = 3
"""Number of entries of `deny` for which each request is compared."""
RESOURCES = (
    "/api/v1:secrets", "/api/v1:pods", "/api/v1:configmaps", "/api/v1:nodes", "/api/v1:namespaces",
    "/apis/apps/v1:deployments", "/apis/rbac.authorization.k8s.io/v1:clusterroles",
)  # fmt: skip
CLUSTER_WIDE = ("nodes", "namespaces", "clusterroles")
QUERIES = (
    "", "watch=1", "fieldSelector=metadata.name%3Da", "fieldSelector=metadata.name%3Db&watch=1",
    "fieldSelector=metadata.namespace%3Dweb", "labelSelector=,&fieldSelector=metadata.name%3Da", "limit=1",
)  # fmt: skip
PATHS = ("/version", "/api", "/metrics", "/logs/x", "/healthz", "/debug/pprof/heap")


def rule(resources: str, verbs: str = "*", *, groups: str = "*", names: str = "") -> dict[str, Any]:
    content: dict[str, Any] = {"apiGroups": [groups], "resources": resources.split(), "verbs": verbs.split()}
    return content | ({"resourceNames": names.split()} if names else {})


ENTRIES: dict[str, tuple[list[dict[str, Any]], list[str] | None]] = {
    "secrets-everywhere": ([rule("secrets", groups="")], None),
    "secrets-in-web": ([rule("secrets", groups="")], ["web"]),
    "secrets-in-both": ([rule("secrets pods/log", "get list", groups="")], ["web", "other"]),
    "one-secret": ([rule("secrets", groups="", names="a")], None),
    "one-secret-in-web": ([rule("secrets configmaps", groups="", names="a b")], ["web"]),
    "get-one-secret": ([rule("secrets", "get", groups="", names="a")], None),
    "everything-in-web": ([rule("*"), {"nonResourceURLs": ["*"], "verbs": ["*"]}], ["web"]),
    "writes": ([rule("*", "create update patch delete deletecollection")], None),
    "watches-in-other": ([rule("*", "watch")], ["other"]),
    "subresources": ([rule("*/exec */log pods/status nodes/proxy deployments/scale")], None),
    "subresources-of-one-in-web": ([rule("*/exec pods/log", names="a")], ["web"]),
    "one-namespace": ([rule("namespaces nodes", groups="", names="web b")], None),
    "paths": ([{"nonResourceURLs": ["/logs/*", "/metrics"], "verbs": ["get"]}], None),
    "a-role": ([rule("clusterroles", "get delete", names="system:c")], None),
}


def requests_of(root: str, resource: str, namespace: str) -> Iterator[Request]:
    collection = f"{root}/{f'namespaces/{namespace}/' if namespace else ''}{resource}"
    watched = collection.replace(root, f"{root}/watch")
    yield from (Request("GET", f"{path}?{query}") for path in (collection, watched) for query in QUERIES)
    yield from (Request(method, collection) for method in ("HEAD", "POST", "PUT", "DELETE"))
    yield Request("PATCH", collection, content_type=MERGE)
    for name, below in product(NAMES, ("", "/status", "/exec", "/log")):
        yield from (Request(method, f"{collection}/{name}{below}") for method in ("GET", "DELETE"))
        yield Request("PATCH", f"{collection}/{name}{below}", content_type=MERGE)
    yield from (Request("GET", f"{watched}/{name}") for name in NAMES)


def collections() -> Iterator[list[Request]]:
    """Yield the requests for each collection. The questions of one collection are largely the same."""
    for each in RESOURCES:
        root, _, resource = each.partition(":")
        for namespace in ("",) if resource in CLUSTER_WIDE else ("", *NAMESPACES):
            yield [*requests_of(root, resource, namespace)]
    yield [Request(method, path) for method, path in product(("GET", "POST"), PATHS)]


@pytest.fixture(scope="module")
def entries(control_plane: ControlPlane) -> list[Bound]:
    create_namespaces(control_plane)
    named = [
        Bound(control_plane, f"deny-{name}", {"rules": rules}, spaces, field="deny")
        for name, (rules, spaces) in ENTRIES.items()
    ]
    generated = roles(served_resources(control_plane.api), GENERATED)
    bound = named + [
        Bound(control_plane, f"deny-generated-{number}", {"rules": rules}, spaces, field="deny")
        for number, (rules, spaces) in enumerate(generated)
    ]
    wait_for_rbac(control_plane.api)
    return bound


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_for_every_request_deny_denies_what_it_can_reach(
    control_plane: ControlPlane, kubernetes: KubernetesParser, entries: list[Bound]
) -> None:
    chance = random.Random(11)  # noqa: S311 - the same choices in every run
    pairs = [
        (request, entry)
        for collection in collections()
        for entry in chance.sample(entries, ENTRIES_OF_COLLECTION)
        for request in collection
    ]
    parsed = {request.target + request.method: kubernetes.parse(request.method, request.target) for request, _ in pairs}
    infos = [parsed[request.target + request.method] for request, _ in pairs]
    asked: list[tuple[str, RequestInfo]] = [
        (entry.user, info) for (_, entry), info in zip(pairs, infos, strict=True) if info is not None
    ]
    model = DenialModel(
        AuthorizationProbe(control_plane),
        namespaces=NAMESPACES,
        names=[*NAMES, "web", "default", "a,b"],
    )
    model.ask(asked)
    counted: Counter[str] = Counter()
    wrong: list[str] = []
    for (request, entry), info in zip(pairs, infos, strict=True):
        if info is None:
            continue
        decision = entry.evaluator.evaluate(attributes_of(request))
        if model.is_denied(entry.user, info) == isinstance(decision, NotAllowed):
            counted["denied" if isinstance(decision, NotAllowed) else "allowed"] += 1
        elif isinstance(decision, NotAllowed) and decision.reason:
            counted["strict"] += 1
        else:
            wrong.append(f"{request} with {entry.user}: {decision}")
    assert wrong[:10] == [], f"{len(wrong)} of {len(pairs)}"
    assert len(pairs) > 2000
    assert counted["denied"] > len(pairs) / 20
    assert counted["allowed"] > len(pairs) / 3
    assert counted["strict"] < len(pairs) / 10
