"""Masked Secrets with a real proxy and a real API server: no form of a request gives a value away.

Each Secret has random canaries in every place that can hold a copy of a value. A response may contain no part of a
canary of 8 bytes, raw or in base64. Everything else in the response equals the direct response.
"""

import base64
import contextlib
import http.client
import json
import re
import secrets
import ssl
import subprocess
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.permissions.restrictions import BUILTIN_GROUPS
from lab.admin_api import has_input
from lab.control_plane import ControlPlane
from lab.helm import Helm
from lab.kubectl import Kubectl
from lab.targets import TargetServer, run_target
from lab.waiting import wait_until
from tests.cluster.proxy.proxied_connector import cluster_admin_token, manifests
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy

PART = 8
MASK = {"mask": [{"resources": ["secrets"]}]}
KEY = ObjectKey("team-a", "masked")
META = "v=v1;g=meta.k8s.io"
COPIES = "copies.example"
"""API group of an aggregated API server with copies of Secrets."""
ACCEPTS = (
    None,
    "application/json",
    "*/*",
    "application/yaml",
    "application/cbor",
    "application/vnd.kubernetes.protobuf",
    "application/vnd.kubernetes.protobuf, application/json",
    f"application/json;as=Table;{META}",
    f"application/json;as=Table;{META},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
    f"application/vnd.kubernetes.protobuf;as=Table;{META},application/json",
    f"application/json;as=PartialObjectMetadata;{META}",
    f"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;{META}, application/json;q=0.1",
    "application/json;as=Table;v=v9;g=x",
    "text/html;q=0.9, application/cbor-seq;q=0.8, */*;q=0.1",
    "application/json;stream=watch",
)
QUERIES = (
    "", "pretty=true", "pretty=1&limit=1", "limit=2", "includeObject=Object", "includeObject=None",
    "includeObject=Metadata", "fieldSelector=metadata.name%3Dplain", "fieldSelector=type=Opaque",
    "fieldSelector=data.password=x", "fieldSelector=metadata.name%3Dplain,data=x", "labelSelector=a=b",
    "resourceVersion=0", "resourceVersion=1&resourceVersionMatch=Exact", "dryRun=All", "watch=0", "as=Table",
    "export=true", "fieldManager=x", "limit=x",
)  # fmt: skip
WATCH_QUERIES = (
    "watch=1&timeoutSeconds=2", "watch=1&timeoutSeconds=2&allowWatchBookmarks=true&sendInitialEvents=true"
    "&resourceVersionMatch=NotOlderThan", "watch=1&timeoutSeconds=2&resourceVersion=1",
    "watch=1&timeoutSeconds=2&resourceVersion=0&includeObject=Object",
)  # fmt: skip
WRITES = (
    ("POST", "application/json"), ("PUT", "application/json"), ("DELETE", "application/json"), ("OPTIONS", ""),
    ("PATCH", "application/merge-patch+json"), ("PATCH", "application/strategic-merge-patch+json"),
    ("PATCH", "application/json-patch+json"), ("PATCH", "application/apply-patch+yaml"), ("TRACE", ""),
)  # fmt: skip


class World:
    """A masked Connector with a cluster-admin's token, and Secrets with canaries."""

    def __init__(
        self, plane: ControlPlane, proxy: RunningProxy, namespace: str, kubectl: Kubectl, open_kubectl: Kubectl
    ) -> None:
        """`open_kubectl` is for a Connector whose `customGroups` has COPIES."""
        self.plane = plane
        self.proxy = proxy
        self.namespace = namespace
        self.kubectl = kubectl
        self.open_kubectl = open_kubectl
        self.parts: set[bytes] = set()
        self._idle: dict[bool, list[http.client.HTTPSConnection]] = {False: [], True: []}
        """Idle connections through the proxy, and direct ones."""

    @cached_property
    def admin_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.plane.ca.certificate))
        context.load_cert_chain(*self.plane.ca.issue("mask", common_name="mask", groups=["system:masters"]))
        return context

    def canary(self, size: int = 48) -> str:
        """Return a new canary of `size` characters."""
        value = secrets.token_urlsafe(size)[:size]
        raw = value.encode()
        for text in (raw, base64.b64encode(raw)):
            starts = range(min(len(text), 4096) - PART + 1)
            self.parts |= {text[start : start + PART] for start in starts}
        return value

    def leaks(self, data: bytes) -> list[bytes]:
        windows = {data[start : start + PART] for start in range(len(data) - PART + 1)}
        return sorted(windows & self.parts)

    def send(
        self, method: str, target: str, headers: dict[str, str], body: bytes = b"", *, direct: bool = False
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send a request through the proxy, or directly to the API server."""
        connection = self._acquire(direct=direct)
        try:
            connection.request(method, target, body or None, headers)
            response = connection.getresponse()
            answer = response.status, response.headers, response.read()
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._idle[direct].append(connection)
        return answer

    def _acquire(self, *, direct: bool) -> http.client.HTTPSConnection:
        """Return an idle connection that the server has not closed, or a new one. Threads may call this."""
        with contextlib.suppress(IndexError):
            while has_input((connection := self._idle[direct].pop()).sock):
                connection.close()
            return connection
        if direct:
            address = urllib.parse.urlsplit(self.plane.url).netloc
            return http.client.HTTPSConnection(address, context=self.admin_context, timeout=WAIT_TIMEOUT)
        return self.proxy.open_tunnel(KEY, self.plane.url)

    def close(self) -> None:
        for connection in [*self._idle[False], *self._idle[True]]:
            connection.close()


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    plane, home = control_plane, tmp_path_factory.mktemp("mask")
    namespace = plane.create_namespace(f"mask-{home.name}")
    token = cluster_admin_token(plane, namespace)
    connector, secret = manifests(plane, token, name=KEY.name)
    connector["spec"]["permissions"] = MASK | {"deny": [{"clusterRole": "connectors-credentials-streams"}]}
    open_connector, open_secret = manifests(plane, token, name="open")
    open_connector["spec"]["permissions"] = MASK | {"customGroups": [COPIES]}
    proxy = RunningProxy(home)
    proxy.write("masked.yaml", connector, secret, open_connector, open_secret)
    with proxy:
        kubectls = [proxy.kubectl(plane.kubectl, each) for each in (connector, open_connector)]
        created = World(plane, proxy, namespace, *kubectls)
        create_secrets(created)
        yield created
        created.close()


def create_secrets(world: World) -> None:
    for name in ("plain", "large", "finalized"):
        data = {"password": world.canary(), "ünïcode.key".encode("ascii", "ignore").decode(): world.canary()}
        if name == "large":
            # The proxy reads it part by part, for its size, its keys and its `managedFields`.
            data |= {"large": world.canary(200_000)} | {f"key-{number}": "v" for number in range(2000)}
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": world.namespace,
                "labels": {"a": "b"},
                "annotations": {"copy.example/of": world.canary(), "meta.helm.sh/release-name": "r"},
                "finalizers": ["example.com/kept"] if name == "finalized" else [],
            },
            "type": "Opaque",
            "stringData": data,
        }
        if name == "plain":
            text = json.dumps(manifest)
            world.plane.kubectl("apply", "-f", "-", stdin=text)
            world.plane.kubectl("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-",
                                stdin=text)  # fmt: skip
        else:
            world.plane.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    world.plane.kubectl("create", "configmap", "plain", "--from-literal=a=b", namespace=world.namespace)


def masked(value: Any, *, is_data: bool = False) -> Any:
    """Return a direct response as it is expected through the mask, independently of the product's code."""
    if isinstance(value, list):
        return [masked(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {name: masked(item) for name, item in value.items() if name != "managedFields"}
    if isinstance(value.get("data"), dict):
        result["data"] = dict.fromkeys(value["data"], "bWFza2Vk")
    if {"uid", "name"} <= value.keys() or set(value) == {"resourceVersion", "annotations"}:
        annotations = value.get("annotations") or {}
        visible = ("k8s.io/initial-events-end", "meta.helm.sh/release-name", "kubernetes.io/service-account.name",
                   "kubernetes.io/service-account.uid")  # fmt: skip
        result["annotations"] = {name: text if name in visible else "masked" for name, text in annotations.items()} | {
            "connectors.alauda.io/masked": "true"
        }
    return result


def without_ages(text: bytes) -> bytes:
    return re.sub(rb'"[0-9]+[smhd][0-9smh]*"', b'"AGE"', text)


READS = [
    "/api/v1/secrets", "/api/v1/namespaces/{ns}/secrets", "/api/v1/namespaces/{ns}/secrets/plain",
    "/api/v1/namespaces/{ns}/secrets/large", "/api/v1/namespaces/{ns}/secrets/finalized",
    "/api/v1/namespaces/{ns}/secrets/absent", "/api/v1/namespaces/{ns}/secrets/", "/api/v1/namespaces/{ns}/%73ecrets",
    "/api/v1/namespaces/{ns}/secrets/plain/status", "/api/v1//namespaces/{ns}/secrets", "/api/v2/secrets",
    "/api/v1/proxy/namespaces/{ns}/secrets/plain", "/api/v1/SECRETS",
]  # fmt: skip
WATCHES = ["/api/v1/watch/secrets", "/api/v1/watch/namespaces/{ns}/secrets",
           "/api/v1/watch/namespaces/{ns}/secrets/plain", "/api/v1/namespaces/{ns}/secrets"]  # fmt: skip


@settings(max_examples=80, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    path=st.sampled_from(READS),
    query=st.sampled_from(QUERIES),
    accept=st.sampled_from(ACCEPTS),
    encoding=st.sampled_from([None, "gzip", "gzip;q=1.0, *;q=0.5", "identity", "br"]),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
)
@example(path=READS[0], query=QUERIES[13], accept=ACCEPTS[10], encoding=None, method="GET").via("an empty list")
def test_no_read_gives_a_value_away(
    world: World, path: str, query: str, accept: str | None, encoding: str | None, method: str
) -> None:
    target = path.format(ns=world.namespace) + (f"?{query}" if query else "")
    headers = {name: value for name, value in (("Accept", accept), ("Accept-Encoding", encoding)) if value}
    status, answer_headers, body = world.send(method, target, headers)
    assert world.leaks(body) == []
    assert world.leaks(str(answer_headers).encode()) == []
    assert status != 502
    if status == 200 and method == "GET":
        assert_equals_the_direct_answer(world, target, accept, body)


def assert_equals_the_direct_answer(world: World, target: str, accept: str | None, body: bytes) -> None:
    answer = json.loads(body)
    form = re.search(r"as=(Table|PartialObjectMetadata)(?:List)?;v=v1;", accept or "")
    suffix = "List" if form and form[1] != "Table" and answer["kind"].endswith("List") else ""
    plain = f"application/json;as={form[1]}{suffix};{META}" if form else "application/json"
    status, _, direct = world.send("GET", target, {"Accept": plain}, direct=True)
    if status == http.client.GONE and "resourceVersion=1&" in target:
        return  # etcd has been compacted since the other response
    assert status == 200
    expected = masked(json.loads(without_ages(direct)))
    for item in expected.get("items") or ():
        item.pop("kind", None), item.pop("apiVersion", None)
    answer = json.loads(without_ages(body))
    for item in answer.get("items") or ():
        item.pop("kind", None), item.pop("apiVersion", None)
    if answer["kind"].endswith(("List", "Table")):
        # The revision of a list is the cluster's, and other objects change meanwhile.
        for each in (answer, expected):
            each["metadata"].pop("resourceVersion", None)
            if token := each["metadata"].get("continue"):
                each["metadata"]["continue"] = json.loads(base64.urlsafe_b64decode(token + "=="))["start"]
    assert answer == expected


def test_no_watch_gives_a_value_away(world: World) -> None:
    """Each path with each query, and all forms of Accept in turn. They run together, because each takes two seconds."""
    targets = [f"{path.format(ns=world.namespace)}?{query}" for path, query in product(WATCHES, WATCH_QUERIES)] * 3
    accepts = [{"Accept": accept} if accept else {} for accept in ACCEPTS]
    with ThreadPoolExecutor(len(targets)) as pool:
        pairs = zip(targets, cycle(accepts), strict=False)
        answers = list(pool.map(lambda pair: read_watch(world, *pair), pairs))
    for target, types in zip(targets, answers, strict=True):
        # The API server forgets revision 1 when its etcd compacts, after 5 minutes.
        assert types[0] == "ADDED" or (types == ["ERROR"] and "resourceVersion=1" in target)
        assert ("BOOKMARK" in types) is ("sendInitialEvents" in target)


def read_watch(world: World, target: str, headers: dict[str, str]) -> list[str]:
    """Return the types of the events. A busy API server may send none, or no bookmark, in two seconds."""

    def types() -> list[str]:
        status, _, body = world.send("GET", target, headers)
        assert status == 200
        assert world.leaks(body) == []
        types = [json.loads(line)["type"] for line in body.splitlines()]
        return types if "BOOKMARK" in types or "sendInitialEvents" not in target else []

    return wait_until(types, target)


@pytest.mark.parametrize(("method", "content_type"), WRITES)
@pytest.mark.parametrize("name", ["", "/plain", "/finalized"])
@pytest.mark.parametrize("query", ["", "?dryRun=All"])
def test_no_write_is_allowed(world: World, method: str, content_type: str, name: str, query: str) -> None:
    target = f"/api/v1/namespaces/{world.namespace}/secrets{name}{query}"
    body = b'{"metadata":{"labels":{"c":"d"}}}' if content_type else b""
    status, _, answer = world.send(method, target, {"Content-Type": content_type} if content_type else {}, body)
    assert status in (400, 403)
    assert world.leaks(answer) == []


@pytest.mark.parametrize(
    "path",
    ["/logs/", "/metrics", "/debug/pprof/heap", "/configz", "/openid/v1/jwks", "/.well-known/openid-configuration"],
)
def test_other_paths_are_refused(world: World, path: str) -> None:
    assert world.send("GET", path, {})[0] == 403


def test_the_api_servers_own_groups_are_the_builtin_ones(world: World) -> None:
    groups = {group["name"] for group in world.plane.api.call("GET", "/apis")["groups"]}
    own = {group for group in groups if group.endswith(".k8s.io") or "." not in group}
    assert own <= BUILTIN_GROUPS


@pytest.fixture
def aggregated_server(world: World) -> Iterator[TargetServer]:
    """An API server with a copy of a Secret, to which the target sends the requests for COPIES."""
    items = [{"metadata": {"name": "copy"}, "data": {"password": world.canary()}}]
    body = json.dumps({"kind": "SecretList", "apiVersion": f"{COPIES}/v1", "items": items}).encode()
    response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with run_target(lambda _: response) as server:
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "copies"},
                   "spec": {"type": "ExternalName", "externalName": "localhost"}}  # fmt: skip
        world.plane.api.apply(service, namespace=world.namespace)
        reference = {"namespace": world.namespace, "name": "copies", "port": server.port}
        spec = {"group": COPIES, "version": "v1", "service": reference, "insecureSkipTLSVerify": True,
                "groupPriorityMinimum": 100, "versionPriority": 100}  # fmt: skip
        name = f"v1.{COPIES}"
        path = "/apis/apiregistration.k8s.io/v1/apiservices"
        world.plane.api.call("POST", path, {"metadata": {"name": name}, "spec": spec})
        try:
            yield server
        finally:
            world.plane.api.call("DELETE", f"{path}/{name}")


def test_copies_in_another_api_server_are_refused_unless_their_group_is_named(
    world: World, aggregated_server: TargetServer
) -> None:
    path = f"/apis/{COPIES}/v1/namespaces/{world.namespace}/secrets"
    wait_until(lambda: world.leaks(world.send("GET", path, {}, direct=True)[2]), "the target to serve the copies")
    aggregated_server.request_heads.clear()
    for method, suffix in (("GET", ""), ("GET", "/copy"), ("GET", "?watch=1"), ("DELETE", ""), ("POST", "/copy/x")):
        status, _, answer = world.send(method, path + suffix, {})
        assert (status, world.leaks(answer)) == (403, [])
        assert b"name it in customGroups" in answer
    assert not [head for head in aggregated_server.request_heads if b"/secrets" in head]
    # The API server takes another one that does not answer its checks in time out of service for a moment.
    wait_until(lambda: world.leaks(world.open_kubectl.run("get", "--raw", path).stdout.encode()), "the copies")


def kubectl_of(world: World, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return world.kubectl.run(*arguments, namespace=world.namespace, stdin=stdin)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("get", "secrets"), "Opaque"),
        (("get", "secrets", "-o", "wide"), "Opaque"),
        (("get", "secrets", "-o", "yaml"), "bWFza2Vk"),
        (("get", "secret", "plain", "-o", "jsonpath={.data.password}"), "bWFza2Vk"),
        (("get", "secrets,configmaps"), "configmap/plain"),
        (("get", "secrets", "-w", "--request-timeout=2"), "plain"),
        (("describe", "secret", "plain"), "password:   6 bytes"),
        (("describe", "secrets"), "large"),
        (("explain", "secret"), "DESCRIPTION"),
        (("get", "secret", "plain", "--show-managed-fields", "-o", "json"), "masked"),
    ],
)
def test_kubectl_reads_masked_secrets(world: World, arguments: tuple[str, ...], words: str) -> None:
    def has_words() -> bool:
        result = kubectl_of(world, *arguments)
        assert world.leaks((result.stdout + result.stderr).encode()) == []
        # The watch ends after two seconds, in which a busy machine may not have shown anything.
        assert words in result.stdout or "-w" in arguments, result.stderr
        return words in result.stdout

    wait_until(has_words, f"kubectl to print {words}")


def test_kubectl_diff_and_apply_work_for_what_helm_renders(world: World, helm: Helm, tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: chart, version: 1.0.0}")
    manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {name: plain}, data: {a: {{ .Values.a }}}}"
    (chart / "templates/map.yaml").write_text(manifest)
    rendered = helm("template", "release", str(chart), "--set", "a=c")
    diff = kubectl_of(world, "diff", "-f", "-", stdin=rendered)
    assert "+  a: c" in diff.stdout, diff.stderr
    apply = kubectl_of(world, "apply", "--dry-run=server", "-f", "-", stdin=rendered)
    assert apply.returncode == 0, apply.stderr
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"}, "stringData": {"password": "x"}}
    refused = kubectl_of(world, "diff", "-f", "-", stdin=json.dumps(secret))
    assert refused.returncode > 1
    assert world.leaks((refused.stdout + refused.stderr).encode()) == []


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (("get", "secrets"), "yes"),
        (("list", "secrets", "-A"), "yes"),
        (("delete", "secrets"), "no"),
        (("create", "pods", "--subresource=exec"), "no"),
        (("create", "pods"), "yes"),
        (("*", "*"), "no"),
        (("get", "/metrics"), "no"),
        (("get", "/version"), "yes"),
    ],
)
def test_kubectl_can_i_says_what_the_connector_allows(world: World, question: tuple[str, ...], answer: str) -> None:
    result = kubectl_of(world, "auth", "can-i", *question)
    assert result.stdout.split()[0] == answer, result.stderr


def test_kubectl_can_i_lists_what_the_connector_allows(world: World) -> None:
    result = kubectl_of(world, "auth", "can-i", "--list")
    assert "/openapi/*" in result.stdout
    assert "allows less" in result.stderr


def test_helm_says_how_to_keep_releases_elsewhere(world: World, helm: Helm, tmp_path: Path) -> None:
    masked_helm = Helm(helm.program, world.kubectl.kubeconfig, tmp_path)
    for arguments in (("list",), ("status", "release"), ("get", "values", "release")):
        result = masked_helm.run(*arguments, "--namespace", world.namespace)
        assert result.returncode != 0
        assert "HELM_DRIVER=configmap" in result.stderr
