"""Limited Connectors with a cluster-admin's token, a real proxy and a real API server: allowed and denied requests."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.process import complete_lines
from lab.waiting import wait_until
from tests.cluster.proxy.proxied_connector import cluster_admin_token, manifests
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy

CANARY = "c4n4ry-of-the-target"
DENY = {"deny": [{"clusterRole": "connectors-credentials"}]}
ALL, LIMITED, READER, NAMED = "all", "limited", "reader", "named"
DENIED_NAMESPACE, DENIED_NAME = "denied-namespace", "denied-name"


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """Connectors of one proxy by name, each with kubectl; `namespace` of the target has a Secret with the canary."""

    plane: ControlPlane
    proxy: RunningProxy
    namespace: str
    kubectls: dict[str, Kubectl]
    objects: dict[str, tuple[dict[str, Any], dict[str, Any]]]

    def run(self, connector: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.kubectls[connector].run(*arguments, namespace=self.namespace, stdin=stdin)


@pytest.fixture(scope="module")
def limited(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Permissions]:
    plane, home = control_plane, tmp_path_factory.mktemp("permissions")
    namespace = plane.create_namespace(f"limited-{home.name}")
    token = cluster_admin_token(plane, namespace)
    plane.kubectl("create", "secret", "generic", "bait", f"--from-literal=password={CANARY}", namespace=namespace)
    plane.kubectl("create", "configmap", "plain", "--from-literal=a=b", namespace=namespace)
    specs: dict[str, dict[str, Any]] = {
        ALL: {},
        LIMITED: {"permissions": DENY},
        READER: {"permissions": {"allow": [{"clusterRole": "connectors-permissions-read-only"}], **DENY}},
        DENIED_NAMESPACE: {
            "permissions": {"deny": [{"clusterRole": "connectors-credentials-secrets", "namespaces": [namespace]}]}
        },
        DENIED_NAME: {"permissions": {"deny": [{"clusterRole": "bait"}]}},
        NAMED: {"impersonate": {"userPrefix": "c:", "groupPrefix": "c:"}},
    }
    objects = {name: manifests(plane, token, name=name) for name in specs}
    proxy = RunningProxy(home)
    for name, (connector, secret) in objects.items():
        connector["spec"] |= specs[name]
        proxy.write(f"{name}.yaml", connector, secret)
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["bait"], "verbs": ["*"]}
    role = {"kind": "ClusterRole", "apiVersion": f"{RBAC}/v1", "metadata": {"name": "bait"}, "rules": [rule]}
    proxy.write("bait.yaml", role)
    with proxy:
        yield Permissions(
            plane=plane,
            proxy=proxy,
            namespace=namespace,
            kubectls={name: proxy.kubectl(plane.kubectl, each) for name, (each, _) in objects.items()},
            objects=objects,
        )


def manifest(kind: str, version: str, **fields: Any) -> str:
    return json.dumps({"kind": kind, "apiVersion": version, "metadata": {"name": "way"}} | fields)


RBAC = "rbac.authorization.k8s.io"
POD = {"containers": [{"name": "c", "image": "i"}]}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": POD}
SECRET = "/api/v1/namespaces/{namespace}/secrets/bait"

YIELDING: list[tuple[str, tuple[str, ...], str]] = [
    ("get", ("get", "secret", "bait", "-o", "yaml"), ""),
    ("list", ("get", "secrets", "-o", "yaml"), ""),
    ("list everywhere", ("get", "secrets", "-A", "-o", "yaml"), ""),
    ("list by a field", ("get", "secrets", "--field-selector=metadata.name=bait", "-o", "yaml"), ""),
    ("watch", ("get", "--raw", "/api/v1/namespaces/{namespace}/secrets?watch=1&timeoutSeconds=1"), ""),
    ("watch by the path", ("get", "--raw", "/api/v1/watch/namespaces/{namespace}/secrets?timeoutSeconds=1"), ""),
    ("patch", ("patch", "secret", "bait", "--type=merge", "-p", '{"metadata":{"labels":{"a":"b"}}}', "-o", "yaml"), ""),
    ("apply", ("apply", "--server-side", "--force-conflicts", "-o", "yaml", "-f", "-"),
     json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bait"}})),
    ("delete, waiting", ("delete", "--raw", SECRET + "?dryRun=All&propagationPolicy=Foreground"), ""),
    ("delete a collection", ("delete", "--raw", "/api/v1/namespaces/{namespace}/secrets?dryRun=All"), ""),
    ("an escaped letter", ("get", "--raw", SECRET.replace("secrets", "%73ecrets")), ""),
    ("a token", ("create", "token", "default"), ""),
]  # fmt: skip
"""Each gives a credential away at once."""

CERTIFICATES = "/apis/certificates.k8s.io/v1"
PODS = "/api/v1/namespaces/{namespace}/pods/p"
OTHERS: list[tuple[str, tuple[str, ...], str]] = [
    ("an empty segment", ("get", "--raw", SECRET.replace("/v1/", "/v1//")), ""),
    ("a signing request", ("create", "-f", "-"),
     manifest("CertificateSigningRequest", "certificates.k8s.io/v1",
              spec={"request": "", "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]})),
    ("an approval", ("replace", "--raw", f"{CERTIFICATES}/certificatesigningrequests/some/approval", "-f", "-"), "{}"),
    ("a pod", ("create", "-f", "-"), manifest("Pod", "v1", spec=POD)),
    ("a deployment", ("create", "-f", "-"),
     manifest("Deployment", "apps/v1", spec={"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE})),
    ("a job", ("create", "-f", "-"), manifest("Job", "batch/v1", spec={"template": TEMPLATE})),
    ("a container in a pod", ("replace", "--raw", PODS + "/ephemeralcontainers", "-f", "-"), "{}"),
    ("a volume of a node's path", ("create", "-f", "-"),
     manifest("PersistentVolume", "v1", spec={"hostPath": {"path": "/"}})),
    ("into a container", ("create", "--raw", PODS + "/exec?command=id", "-f", "-"), "{}"),
    ("into a container by GET", ("get", "--raw", PODS + "/exec?command=id&stdout=true"), ""),
    ("to a port of a pod", ("create", "--raw", PODS + "/portforward", "-f", "-"), "{}"),
    ("into a node", ("get", "--raw", "/api/v1/nodes/n/proxy/pods"), ""),
    ("into a Service", ("get", "--raw", "/api/v1/namespaces/default/services/https:kubernetes:443/proxy/version"), ""),
    ("escalate", ("create", "clusterrole", "way", "--verb=*", "--resource=*"), ""),
    ("bind", ("create", "clusterrolebinding", "way", "--clusterrole=cluster-admin", "--user=me"), ""),
    ("bind in a namespace", ("create", "rolebinding", "way", "--clusterrole=cluster-admin", "--user=me"), ""),
    ("bind by apply", ("apply", "--server-side", "-f", "-"),
     manifest("ClusterRoleBinding", f"{RBAC}/v1", roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": "edit"})),
    ("a webhook that reads along", ("create", "-f", "-"),
     manifest("ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1", webhooks=[])),
    ("a policy with a Secret as its parameter", ("create", "-f", "-"),
     manifest("ValidatingAdmissionPolicy", "admissionregistration.k8s.io/v1", spec={})),
    ("a group of the API", ("create", "-f", "-"), manifest("APIService", "apiregistration.k8s.io/v1", spec={})),
    ("a namespace's labels", ("label", "namespace", "default", "a=b"), ""),
    ("the API server's profiles", ("get", "--raw", "/debug/pprof/heap"), ""),
]  # fmt: skip
"""In several steps, through a node, or through another user's rights."""

NOT_ALLOWED = ("does not allow", "only canonical paths are allowed")


@pytest.mark.parametrize(("way", "stdin"), [pytest.param(each[1], each[2], id=each[0]) for each in YIELDING])
def test_requests_that_return_a_credential_are_denied(limited: Permissions, way: tuple[str, ...], stdin: str) -> None:
    filled = [each.format(namespace=limited.namespace) if each.startswith("/") else each for each in way]
    encoded = "YzRuNHJ5LW9mLXRoZS10YXJnZXQ="

    def is_yielded() -> bool:
        free = limited.run(ALL, *filled, stdin=stdin)
        return encoded in free.stdout or "eyJ" in free.stdout

    # Without limits it works, so that the rest of this test says something. A watch of a second may see nothing.
    wait_until(is_yielded, "the credential, without limits")
    for name in (LIMITED, READER):
        refused = limited.run(name, *filled, stdin=stdin)
        assert refused.returncode != 0
        assert any(each in refused.stderr for each in NOT_ALLOWED), refused.stderr
        assert encoded not in refused.stdout + refused.stderr
        assert "eyJ" not in refused.stdout


@pytest.mark.parametrize("connector", [DENIED_NAMESPACE, DENIED_NAME])
@pytest.mark.parametrize(
    ("way", "stdin"), [pytest.param(each[1], each[2], id=each[0]) for each in YIELDING if each[0] != "a token"]
)
def test_requests_that_return_a_denied_secret_among_others_are_denied(
    limited: Permissions, connector: str, way: tuple[str, ...], stdin: str
) -> None:
    refused = limited.run(
        connector, *(each.format(namespace=limited.namespace) if each.startswith("/") else each for each in way),
        stdin=stdin,
    )  # fmt: skip
    assert refused.returncode != 0
    assert any(each in refused.stderr for each in NOT_ALLOWED), refused.stderr
    assert "YzRuNHJ5LW9mLXRoZS10YXJnZXQ=" not in refused.stdout + refused.stderr


def test_requests_that_cannot_return_a_denied_secret_are_allowed(limited: Permissions) -> None:
    elsewhere = limited.kubectls[DENIED_NAMESPACE].run("get", "secrets", namespace="default")
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert "plain" in limited.run(DENIED_NAMESPACE, "get", "configmaps", "-A").stdout
    other = limited.run(DENIED_NAME, "get", "secrets", "--field-selector=metadata.name=other")
    assert other.returncode == 0, other.stderr
    assert "plain" in limited.run(DENIED_NAME, "get", "configmaps").stdout


@pytest.mark.parametrize(("way", "stdin"), [pytest.param(each[1], each[2], id=each[0]) for each in OTHERS])
def test_requests_that_lead_to_a_credential_are_denied(limited: Permissions, way: tuple[str, ...], stdin: str) -> None:
    filled = [each.format(namespace=limited.namespace) if each.startswith("/") else each for each in way]
    for name in (LIMITED, READER):
        refused = limited.run(name, *filled, stdin=stdin)
        assert refused.returncode != 0
        assert any(each in refused.stderr for each in NOT_ALLOWED), refused.stderr


@pytest.mark.parametrize("connector", [ALL, LIMITED, READER])
def test_impersonation_headers_are_refused(limited: Permissions, connector: str) -> None:
    refused = limited.run(connector, "get", "secrets", "--as=system:admin", "--as-group=system:masters")
    assert "impersonation does not work through a Connector" in refused.stderr


def test_all_other_requests_are_allowed(limited: Permissions) -> None:
    assert "plain" in limited.run(LIMITED, "get", "configmaps").stdout
    assert "plain" in limited.run(READER, "get", "configmaps").stdout
    refused = limited.run(READER, "delete", "configmap", "plain")
    assert (
        f'configmaps "plain" is forbidden: Connector "team-a/reader" does not allow "delete" on resource "configmaps" '
        f'in API group "" in the namespace "{limited.namespace}"'
    ) in refused.stderr


def test_a_self_review_is_answered_as_the_intersection(limited: Permissions) -> None:
    refused = limited.run(LIMITED, "auth", "can-i", "get", "secrets").stdout
    assert refused.strip() == ('no - Connector "team-a/limited" does not allow it (ClusterRole connectors-credentials)')
    assert limited.run(LIMITED, "auth", "can-i", "get", "pods").stdout.strip() == "yes"
    assert limited.run(ALL, "auth", "can-i", "get", "secrets").stdout.strip() == "yes"
    assert "allows less" in limited.run(LIMITED, "auth", "can-i", "--list").stderr
    listed = limited.run(READER, "auth", "can-i", "--list").stdout
    assert "[get list watch]" in listed
    assert "[delete" not in listed


def test_both_audit_logs_have_the_same_audit_id(limited: Permissions) -> None:
    limited.run(READER, "get", "configmaps")
    limited.run(READER, "delete", "configmap", "plain")

    def of(connector: str, verb: str) -> list[dict[str, Any]]:
        lines = limited.proxy.audit()
        return [
            each
            for each in lines
            if each.get("connector") == f"team-a/{connector}"
            and (each["verb"], each["resource"]) == (verb, "configmaps")
        ]

    listed = wait_until(lambda: of(READER, "list"), "an audit line")[-1]
    assert (listed["role"], listed["reason"]) == ("connectors-permissions-read-only", "")
    refused = wait_until(lambda: of(READER, "delete"), "an audit line")[-1]
    assert (refused["status"], refused["reason"], refused["audit_id"]) == (403, "not_allowed", "")
    theirs = wait_until(lambda: _audited(limited.plane, str(listed["audit_id"])), "the target's audit line")
    assert (theirs["verb"], theirs["objectRef"]["resource"]) == ("list", "configmaps")


def _audited(plane: ControlPlane, audit_id: str) -> dict[str, Any]:
    for line in complete_lines(plane.audit_log):
        if audit_id in line:
            record: dict[str, Any] = json.loads(line)
            return record
    return {}


def test_the_target_decides_by_caller(limited: Permissions) -> None:
    who = json.loads(limited.run(NAMED, "auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert who["username"].startswith("c:")
    assert "system:masters" not in who["groups"]
    refused = limited.run(NAMED, "get", "configmaps")
    assert f'User "{who["username"]}" cannot list resource "configmaps"' in refused.stderr
    binding = ("create", "rolebinding", "of-the-caller", "--clusterrole=cluster-admin", f"--user={who['username']}")
    limited.plane.kubectl(*binding, namespace=limited.namespace)
    assert "plain" in wait_until(lambda: limited.run(NAMED, "get", "configmaps").stdout, "the right")


def test_a_watch_closes_when_it_is_no_longer_allowed(limited: Permissions, tmp_path: Path) -> None:
    connector, _ = limited.objects[READER]
    name = "watched"
    watched = json.loads(json.dumps(connector))
    watched["metadata"]["name"] = name
    watched["spec"]["permissions"] = {"allow": [{"clusterRole": "view"}]}
    limited.proxy.write("watched.yaml", watched)
    kubectl = limited.proxy.kubectl(limited.plane.kubectl, watched)
    wait_until(lambda: kubectl.run("get", "configmaps", namespace=limited.namespace).returncode == 0, "the Connector")
    command = kubectl.command("get", "configmaps", "--watch", "-o", "name", namespace=limited.namespace)
    with (tmp_path / "out").open("w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as watch:
        try:
            wait_until(lambda: "plain" in (tmp_path / "out").read_text(), "the watch")
            watched["spec"]["permissions"] = {"allow": [{"clusterRole": "view", "namespaces": ["elsewhere"]}]}
            limited.proxy.write("watched.yaml", watched)
            watch.wait(WAIT_TIMEOUT)
        finally:
            watch.kill()

    def revoked_records() -> list[dict[str, Any]]:
        return [each for each in limited.proxy.audit() if each.get("connector") == f"team-a/{name}"
                and each["event"] == "stream"]  # fmt: skip

    assert wait_until(revoked_records, "the end of the stream")[-1]["reason"] == "its Connector no longer allows it"
