"""Plan mode with a real proxy and a real API server: hundreds of writes change no key in etcd."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.process import complete_lines, environment_without_proxies
from tests.cluster.permissions.generated_requests import Resource, served_resources
from tests.cluster.proxy.proxied_connector import TARGET_USER, cluster_admin_token, manifests
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy

KEY = ObjectKey("team-a", "plan")
VOLATILE = (
    "compact_rev_key", "/registry/leases/", "/registry/masterleases/", "/registry/peerserverleases/",
    "/registry/events/", "/registry/apiregistration.k8s.io/",
)  # fmt: skip
"""What API servers write by themselves: the revision of each compaction, Leases, and what they find available."""
JSON, MERGE = "application/json", "application/merge-patch+json"
NAMES = ("", "existing")
WARNING = "nothing was changed: Connector team-a/plan allows dry runs only"
DELETE_BODIES: list[tuple[str, bytes]] = [
    ("", b""), (JSON, b""), (JSON, b"{}"), (JSON, b'{"propagationPolicy":"Background","gracePeriodSeconds":0}'),
    (JSON, b'{"dryRun":[]}'), ("", b'{"kind":"DeleteOptions","apiVersion":"v1"}'),
    ("application/yaml", b"gracePeriodSeconds: 0\n"), ("application/cbor", b"\xd9\xd9\xf7\xa0"),
    ("application/vnd.kubernetes.protobuf",
     b"k8s\x00\n\x13\n\x02v1\x12\rDeleteOptions\x12\x02\x08\x00\x1a\x00\"\x00"),
    (JSON, b"not JSON"), ("text/plain", b"{}"), (JSON, b'{"preconditions":{"uid":"x"}}'),
]  # fmt: skip


class World:
    def __init__(self, plane: ControlPlane, proxy: RunningProxy, namespace: str, kubectl: Kubectl) -> None:
        self.plane = plane
        self.proxy = proxy
        self.namespace = namespace
        self.kubectl = kubectl
        self._connection: http.client.HTTPSConnection | None = None

    def send(self, method: str, target: str, content_type: str = "", body: bytes = b"") -> tuple[int, bytes, str]:
        """Send a request through the proxy. Return status, body and Warning."""
        connection = self._connection or self.proxy.open_tunnel(KEY, self.plane.url)
        self._connection = None
        connection.request(method, target, body or None, {"Content-Type": content_type} if content_type else {})
        response = connection.getresponse()
        answer = response.status, response.read(), ", ".join(response.headers.get_all("Warning", []))
        if response.will_close:
            connection.close()
        else:
            self._connection = connection
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def revisions(self) -> dict[str, int]:
        """Return the revision of each key's last change."""
        return {key: revision for key, revision in self.plane.etcd.revisions().items() if not key.startswith(VOLATILE)}

    def audited_writes(self) -> list[dict[str, Any]]:
        """Return what the target's audit log says of the writes of this account."""
        user = f"system:serviceaccount:{self.namespace}:{TARGET_USER}"
        lines = (json.loads(line) for line in complete_lines(self.plane.audit_log))
        return [line for line in lines if line["user"].get("username") == user and line["verb"] not in READS]


READS = ("get", "list", "watch")
CONTAINERS = {"containers": [{"name": "c", "image": "i"}]}


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    plane, home = control_plane, tmp_path_factory.mktemp("plan")
    namespace = plane.create_namespace(f"plan-{home.name}")
    token = cluster_admin_token(plane, namespace)
    for kind in ("configmap", "secret generic", "serviceaccount", "service clusterip"):
        extra = ["--tcp=80"] if kind.startswith("service ") else []
        plane.kubectl("create", *kind.split(), "existing", *extra, namespace=namespace)
    connector, secret = manifests(plane, token, name=KEY.name)
    connector["spec"]["permissions"] = {"dryRun": True}
    proxy = RunningProxy(home)
    proxy.write("plan.yaml", connector, secret)
    with proxy:
        world = World(plane, proxy, namespace, proxy.kubectl(plane.kubectl, connector))
        yield world
        world.close()


def writes(world: World) -> Iterator[tuple[str, str, str, bytes]]:
    """Yield method, target, content type and body of writes on everything that the server has."""
    for resource in served_resources(world.plane.api):
        path = path_of(resource, world.namespace)
        body = json.dumps({"metadata": {"name": "existing", "labels": {"a": "b"}}}).encode()
        yield "POST", path.removesuffix("/existing"), JSON, body
        yield "PUT", path, JSON, body
        yield "PATCH", path, MERGE, b'{"metadata":{"labels":{"a":"b"}}}'
        yield "DELETE", path, JSON, b'{"gracePeriodSeconds":0}'
        yield "DELETE", path, "", b""
    existing = [f"/api/v1/namespaces/{world.namespace}/{kind}" for kind in ("configmaps", "secrets", "serviceaccounts")]
    queries = ("", "?dryRun=", "?dryRun=None&dryRun=All", "?dry%52un=x", "?a=1;b&dryRun=", "?x=%zz", "?#&pretty=1")
    for path, name, query, (content_type, body) in product(existing, NAMES, queries[:4], DELETE_BODIES):
        yield "DELETE", f"{path}/{name}".rstrip("/") + query, content_type, body
    for path, query in product(existing, queries):
        manifest = b'{"metadata":{"name":"created"}}'
        yield "POST", path + query, JSON, manifest
        yield "PUT", f"{path}/existing{query}", JSON, b'{"metadata":{"name":"existing","labels":{"c":"d"}}}'
        yield "PATCH", f"{path}/existing{query}", "application/apply-patch+yaml", manifest


def path_of(resource: Resource, namespace: str) -> str:
    return resource.path(namespace if resource.namespaced else "", "existing")


def test_no_write_changes_anything(world: World) -> None:
    before, statuses, kept = world.revisions(), set(), 0
    for method, target, content_type, body in writes(world):
        status, answer, warning = world.send(method, target, content_type, body)
        statuses.add(status)
        kept += 1
        if 200 <= status < 300:
            assert WARNING in warning or "reviews" in target, (method, target)
        assert b'"token":"' not in answer, (method, target)
    assert kept > 500
    assert {200, 201, 403} < statuses
    after = world.revisions()
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == set()
    audited = world.audited_writes()
    assert len(audited) > 300
    wrong = [line["requestURI"] for line in audited if "?dryRun=All" not in line["requestURI"]
             and "selfsubject" not in line["requestURI"]]  # fmt: skip
    assert wrong == []


CLIENT_ERRORS = {"token": "only dry runs are allowed", "preconditions": "the UID in the precondition"}
"""Parts of the names of writes that fail, with words of their errors."""


def test_client_go_plans(world: World, client_program: Path) -> None:
    """Writes of all kinds in JSON and in protobuf, each with the bodies that client-go sends."""
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "existing"},
                  "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
                           "template": {"metadata": {"labels": {"a": "b"}}, "spec": CONTAINERS}}}  # fmt: skip
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "existing"},
           "spec": CONTAINERS | {"serviceAccountName": "existing"}}  # fmt: skip
    world.plane.api.apply(deployment, pod, namespace=world.namespace)
    before, audited = world.revisions(), len(world.audited_writes())
    result = subprocess.run(
        [client_program, "write", world.namespace],
        env=environment_without_proxies() | {"KUBECONFIG": str(world.kubectl.kubeconfig)},
        capture_output=True, text=True, check=False, timeout=WAIT_TIMEOUT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    answers = [line.split("\t") for line in result.stdout.splitlines()]
    assert {encoding for encoding, _, _ in answers} == {JSON, "application/vnd.kubernetes.protobuf"}
    assert len(answers) > 70
    for encoding, name, message in answers:
        words = next((words for part, words in CLIENT_ERRORS.items() if part in name), "done")
        assert words in message, (encoding, name)
    after = world.revisions()
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == set()
    targets = [line["requestURI"] for line in world.audited_writes()[audited:]]
    assert len(targets) > 70
    assert [target for target in targets if "dryRun=All" not in target] == []


def test_kubectl_plans(world: World) -> None:
    before = world.revisions()
    for arguments in (
        ("create", "configmap", "a"), ("label", "configmap", "existing", "x=y"), ("delete", "configmap", "existing",
        "--wait=false"), ("create", "secret", "generic", "b"), ("annotate", "secret", "existing", "x=y"),
        ("delete", "secrets", "--all", "--wait=false"), ("create", "deployment", "d", "--image=i"),
        ("delete", "namespace", world.namespace, "--wait=false"),
    ):  # fmt: skip
        result = world.kubectl.run(*arguments, namespace=world.namespace)
        assert result.returncode == 0, result.stderr
        assert WARNING in result.stderr
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}}
    for flags in ((), ("--server-side",), ("--dry-run=server",)):
        assert "configmap/applied" in world.kubectl("apply", *flags, "-f", "-", namespace=world.namespace,
                                                    stdin=json.dumps(manifest))  # fmt: skip
    assert world.revisions() == before


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/api/v1/namespaces/{ns}/serviceaccounts/existing/token"),
        ("GET", "/api/v1/namespaces/{ns}/pods/p/exec?command=id"),
        ("POST", "/api/v1/namespaces/{ns}/pods/p/portforward"),
        ("GET", "/api/v1/namespaces/{ns}/services/existing/proxy/"),
        ("GET", "/api/v1/nodes/n/proxy/pods"),
        ("POST", "/apis/metrics.k8s.io/v1beta1/pods"),
        ("POST", "/version"),
    ],
)
def test_what_has_no_dry_run_is_refused(world: World, method: str, target: str) -> None:
    status, answer, _ = world.send(method, target.format(ns=world.namespace), JSON, b"{}" if method == "POST" else b"")
    assert status == 403
    assert b"only dry runs are allowed" in answer
