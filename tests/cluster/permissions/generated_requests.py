"""Requests and roles over everything that a real API server serves, the same ones in every run."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from lab.admin_api import AdminApi

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy", "*")
NAMESPACES = ("web", "other")
NAMES = ("a", "b", "system:c")
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
QUERIES = (
    "", "", "", "watch=true", "watch", "watch=0", "watch=False", "watch=fal%C5%BFe", "limit=1", "resourceVersion=0",
    "fieldSelector=metadata.name%3Da", "fieldSelector=metadata.name%3D%3Db&watch=1", "fieldSelector=metadata.name!=a",
    "fieldSelector=metadata.name%3Db%2Cmetadata.name%3Da", "fieldSelector=metadata.name=a,spec.x", "fieldSelector=a=b",
    "fieldSelector=metadata.name=a%5C%2Cb", "fieldSelector=metadata.name%3D..",
    "fieldSelector=metadata.name=system%3Ac",
    "labelSelector=app+in+(x)&fieldSelector=metadata.name=a", "labelSelector=app+in+x&fieldSelector=metadata.name=a",
    "labelSelector=,&watch=1", "labelSelector=!a&fieldSelector=metadata.name=a&fieldSelector=metadata.name=b",
    "labelSelector=a%3E-1&fieldSelector=metadata.name%3Da", "labelSelector=a%3E01&fieldSelector=metadata.name%3Da",
    "limit=x&fieldSelector=metadata.name=a", "limit=%2B1&fieldSelector=metadata.name=a", "watch=1;a", "a%zz&watch=1",
    "timeoutSeconds=&watch=1&fieldSelector=metadata.name=a",
    "limit=0000000000000000000000001&fieldSelector=metadata.name=b",
)  # fmt: skip
PATHS = (
    "/", "/api", "/api/", "/apis", "/apis/", "/version", "/version/", "/healthz", "/healthz/ping", "/livez",
    "/livez/etcd",
    "/readyz", "/metrics", "/openapi/v2", "/openapi/v3", "/openapi/v3/api/v1", "/logs", "/logs/x", "/debug/pprof/",
    "/configz", "/flagz", "/statusz", "/.well-known/openid-configuration", "/openid/v1/jwks", "/nothing", "/api/v1",
    "/apis/apps", "/apis/apps/v1", "/apis/apps/v1/", "/apis/nothing.example/v1", "/API/v1/pods", "/api/v2", "/livez/*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resource:
    group: str
    version: str
    name: str
    """With its subresource."""
    namespaced: bool

    def path(self, namespace: str, name: str) -> str:
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        space = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        resource, _, subresource = self.name.partition("/")
        parts = [each for each in (resource, name or ("a" if subresource else ""), subresource) if each]
        return f"{root}{space}/{'/'.join(parts)}"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    content_type: str = ""
    upgrade: bool = False


OWN_APIS = "kube-aggregator.kubernetes.io/automanaged=onstart"
"""Label of the APIs of the API server itself. Those of custom resources have another value, others none
(k8s.io/kube-aggregator/pkg/controllers/autoregister).
"""


def served_resources(api: AdminApi) -> list[Resource]:
    """Every resource and subresource of every version that the API server serves by itself.

    Kinds that other tests add would change all the random choices that follow.
    """
    own = api.call("GET", "/apis/apiregistration.k8s.io/v1/apiservices?labelSelector=" + quote(OWN_APIS))["items"]
    specs = sorted((each["spec"].get("group", ""), each["spec"]["version"]) for each in own)
    places = [(group, version, f"/apis/{group}/{version}" if group else f"/api/{version}") for group, version in specs]
    return [
        Resource(group, version, each["name"], each["namespaced"])
        for group, version, path in places
        for each in api.call("GET", path)["resources"]
    ]


def requests(resources: list[Resource]) -> Iterator[Request]:
    """For each resource every method, with and without name and namespace; then odd spellings and other paths."""
    chance = random.Random(17)  # noqa: S311 - the same choices in every run
    for resource in resources:
        for method in METHODS:
            for with_name in (False, True):
                for namespace in (*NAMESPACES, "") if resource.namespaced else ("",):
                    path = resource.path(namespace, chance.choice(NAMES) if with_name else "")
                    yield _random_request(chance, method, path)
    for resource in resources:
        yield from _odd_spellings(chance, resource)
    for path in PATHS:
        for method in METHODS:
            yield Request(method, path)
    yield Request("GET", "/api/v1/pods?watch=1" + "&" * 9999)
    yield Request("GET", "/api/v1/pods?watch=1" + "&" * 10000)


def _random_request(chance: random.Random, method: str, path: str) -> Request:
    if method in ("GET", "HEAD"):
        query = chance.choice(QUERIES)
        upgrade = method == "GET" and path.endswith(("/exec", "/attach", "/portforward", "/proxy"))
        return Request(method, f"{path}?{query}" if query else path, upgrade=upgrade and chance.random() < 0.5)
    kind = chance.choice((MERGE, APPLY, "application/json-patch+json")) if method == "PATCH" else ""
    # A dry run: an allowed request must not change anything.
    return Request(method, f"{path}?dryRun=All", content_type=kind)


def _odd_spellings(chance: random.Random, resource: Resource) -> Iterator[Request]:
    path = resource.path("web", "a")
    root, _, after_version = path.partition("/v")
    version, _, below = after_version.partition("/")
    spellings = (
        f"{path}/",
        f"{path}//",
        f"//{path}",
        path.replace("/", "//", 2),
        f"{root}/v{version}//{below}",
        f"{root}/v{version}/./{below}",
        f"{root}/v{version}/x/../{below}",
        f"{root}/v{version}/{below.replace('a', '%61')}",
        f"{root}/v{version}/{below.replace('/', '%2F')}",
        f"{root}/v{version}/{below};x",
        f"{root}/v{version}/{below}%00",
        f"{root}/v{version}/{below.upper()}",
        f"{root}/v{version}/watch/{below}",
        f"{root}/v{version}/proxy/{below}",
        f"{root}/v{version}/redirect/{below}",
        f"{root}/v{version}/watch",
        f"{path}/status/more/and/more",
    )
    for spelling in chance.sample(spellings, 12):
        yield Request("GET", spelling)


def roles(resources: list[Resource], number: int) -> Iterator[tuple[list[dict[str, Any]], list[str] | None]]:
    """Rules of a ClusterRole, and the namespaces in which it is bound; None: everywhere."""
    chance = random.Random(4)  # noqa: S311 - the same choices in every run
    groups = sorted({each.group for each in resources})
    names = sorted({each.name for each in resources})
    for index in range(number):
        rules = [_rule(chance, groups, names) for _ in range(chance.randint(1, 12))]
        rules.append(
            {"nonResourceURLs": chance.sample([*PATHS, "/livez/*", "/api*", "*"], 5), "verbs": ["get", "post"]}
        )
        bound = index % 3
        yield rules, None if bound else list(NAMESPACES[: chance.randint(1, 2)])


def _rule(chance: random.Random, groups: list[str], names: list[str]) -> dict[str, Any]:
    resources = chance.choice(
        [["*"], chance.sample(names, 40), [*chance.sample(names, 20), "*/status", "*/proxy", "*/exec", "pods/*"]]
    )
    rule = {
        "apiGroups": chance.choice([["*"], ["*"], chance.sample(groups, 4), ["", "apps"]]),
        "resources": resources,
        "verbs": chance.choice([["*"], chance.sample(VERBS[:-1], 3), ["get", "list", "watch"], ["update", "patch"]]),
    }
    if chance.random() < 0.4:
        rule["resourceNames"] = chance.sample([*NAMES, "a,b", "default"], 2)
    return rule
