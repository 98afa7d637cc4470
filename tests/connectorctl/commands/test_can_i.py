"""`connectorctl can-i`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.kube.resources import ACCESS_REQUESTS, CLUSTER_ROLES, CONNECTORS, SECRETS
from tests.connectorctl.cli_result import RunCli
from tests.connectorctl.fake_access_cluster import FakeAccessCluster, ready
from tests.fakes.api_server import refusal

LIMITED = """\
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: limited}
spec:
  connectorClassName: k8s
  address: https://h:6443
  auth: {secretRef: {name: s}}
  permissions: {allow: [{clusterRole: edit, namespaces: [web]}], deny: [{clusterRole: connectors-credentials}]}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: free}
spec: {connectorClassName: k8s, address: "https://h:6443", auth: {secretRef: {name: s}}}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: but}
spec:
  connectorClassName: k8s
  address: https://h:6443
  auth: {secretRef: {name: s}}
  permissions: {deny: [{clusterRole: view}]}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: narrow}
spec:
  connectorClassName: k8s
  address: https://h:6443
  auth: {secretRef: {name: s}}
  permissions: {deny: [{clusterRole: connectors-permissions-read-only, namespaces: [kube-system]}]}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: agent}
spec:
  connectorClassName: k8s
  address: https://h:6443
  auth: {secretRef: {name: s}}
  permissions: {mask: [{resources: [secrets]}], dryRun: true}
---
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: broken}
spec: {connectorClassName: k8s, address: "https://h:6443", auth: {secretRef: {name: none}}}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
type: connectors.cpaas.io/bearer-token
stringData: {token: one}
"""


@pytest.mark.parametrize(
    ("line", "code", "out", "message"),
    [
        ("delete deployments.apps -n web --connector default/limited", 0, "yes", "allowed by ClusterRole edit"),
        ("delete deployments.apps --connector default/limited", 1, "no", "no ClusterRole in allow covers it"),
        ("get secrets a -n web --connector default/limited", 1, "no", "denied by ClusterRole connectors-credentials"),
        ("update deployments.apps -n web --connector default/limited", 1, "no", "denied by"),
        ("get /metrics --connector default/limited", 1, "no", "no ClusterRole"),
        ("get /api --connector default/limited", 0, "yes", "allowed by ClusterRole system:discovery"),
        ("get secrets --connector default/free", 0, "yes", "has no permissions"),
        ("get secrets --connector default/but", 0, "yes", "no ClusterRole in deny covers it"),
        ("get secrets --connector default/narrow", 1, "no", "denied by ClusterRole connectors-permissions-read-only"),
        ("list secrets --connector default/narrow", 1, "no", "denied by ClusterRole connectors-permissions-read-only"),
        ("list secrets -n web --connector default/narrow", 0, "yes", "no ClusterRole in deny covers it"),
        ("get /k8s/a/api/v1 --connector default/but", 1, "no", 'it needs "get" on /k8s/a/api/v1: an API may lie below'),
        ("get secrets --connector default/agent", 0, "yes, masked", "no ClusterRole in deny covers it"),
        ("delete pods --connector default/agent", 0, "yes, dry run only", "no ClusterRole in deny covers it"),
        ("get pods --connector default/agent", 0, "yes", "no ClusterRole in deny covers it"),
        ("create pods/exec --connector default/agent", 1, "no", "only dry runs are allowed"),
        ("'*' pods --connector default/limited", 1, "no", "no ClusterRole in allow covers it"),
        ("get secrets --connector default/broken", 1, "", 'secrets "none" not found'),
        ("get secrets --connector default/absent", 1, "", '"absent" not found'),
        ("get secrets", 1, "", "the source has several Connectors; name one of: default/agent, default/broken, "),
        ("get secrets a b", 2, "", "b: there are two names; write one"),
        ("get secrets --connector default/free ./connectors", 0, "yes", "has no permissions"),
        ("get secrets a ./connectors --source x", 2, "", "./connectors: the source is named twice"),
    ],
)
def test_the_answer_is_one_word_and_the_reason_goes_to_stderr(
    run_cli: RunCli, workdir: Path, line: str, code: int, out: str, message: str
) -> None:
    (workdir / "connectors").mkdir()
    (workdir / "connectors" / "all.yaml").write_text(LIMITED)
    result = run_cli(f"can-i {line}")
    assert (result.code, result.out.strip()) == (code, out)
    assert message in result.err


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_the_answer_can_be_data(run_cli: RunCli, workdir: Path, form: str, load: Callable[[str], object]) -> None:
    (workdir / "connectors").mkdir()
    (workdir / "connectors" / "all.yaml").write_text(LIMITED)
    code, out, err = run_cli(f"can-i get secrets --connector default/narrow -o {form}")
    assert (code, err) == (1, "")
    reason = "denied by ClusterRole connectors-permissions-read-only"
    assert load(out) == {"connector": "default/narrow", "allowed": False, "note": "", "reason": reason}


APPROVED = {**ready("True", "Approved"), "expirationTime": "2100-01-01T00:00:00Z"}
EDIT = {"allow": [{"clusterRole": "edit", "namespaces": ["web"]}]}


async def put_connector(cluster: FakeAccessCluster) -> None:
    """Store the Connector a/prod, which allows `view` and offers `edit` in the namespace web."""
    for name, verb in (("view", "get"), ("edit", "delete")):
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]
        await cluster.server.put(CLUSTER_ROLES, {"metadata": {"name": name}, "rules": rules})
    spec = {
        "connectorClassName": "k8s",
        "address": "https://h:6443",
        "auth": {"name": "bearerTokenAuth", "secretRef": {"name": "s"}},
        "permissions": {"allow": [{"clusterRole": "view"}], "onRequest": EDIT},
    }
    secret = {"type": BEARER_TOKEN_SECRET, "data": {"token": "dA=="}}
    await cluster.server.put(SECRETS, {"metadata": {"name": "s", "namespace": "a"}, **secret})
    await cluster.server.put(CONNECTORS, {"metadata": {"name": "prod", "namespace": "a"}, "spec": spec})


@pytest.mark.parametrize(
    ("request_fields", "namespace", "is_allowed"),
    [
        pytest.param({"status": APPROVED, "permissions": EDIT}, "web", True, id="an approved request adds it"),
        pytest.param({"status": APPROVED, "permissions": EDIT}, "db", False, id="in another namespace"),
        pytest.param({"status": APPROVED}, "web", False, id="a request without permissions"),
        pytest.param({"permissions": EDIT}, "web", False, id="not approved yet"),
        pytest.param(
            {"status": APPROVED | {"expirationTime": "2020-01-01T00:00:00Z"}, "permissions": EDIT},
            "web",
            False,
            id="ended, which a controller that is away has not written yet",
        ),
        pytest.param(
            {"status": APPROVED, "permissions": EDIT, "subject": {"kind": "User", "name": "joe"}},
            "web",
            False,
            id="for another user",
        ),
        pytest.param(
            {
                "status": APPROVED,
                "permissions": EDIT,
                "context": {"objectRef": {"kind": "Pod", "name": "p", "namespace": "a", "uid": "1"}},
            },
            "web",
            False,
            id="for the tokens of a pod",
        ),
        pytest.param(
            {"status": APPROVED, "permissions": EDIT, "connectorRef": {"name": "other"}},
            "web",
            False,
            id="for another Connector",
        ),
    ],
)
async def test_an_approved_access_request_of_the_user_counts(
    cluster: FakeAccessCluster, request_fields: dict[str, Any], namespace: str, is_allowed: bool
) -> None:
    await put_connector(cluster)
    await cluster.put_request(**request_fields)
    code, out, err = await cluster.run(f"can-i delete pods -n {namespace} --connector a/prod --source kubernetes")
    reason = (
        "allowed by ClusterRole edit, which your access request adds"
        if is_allowed
        else "no ClusterRole in allow covers it"
    )
    assert (code, out, err) == (0 if is_allowed else 1, "yes\n" if is_allowed else "no\n", f"{reason}\n")
    allowed = await cluster.run("can-i get pods --connector a/prod --source kubernetes")
    assert (allowed.out, allowed.err) == ("yes\n", "allowed by ClusterRole view\n")


async def test_a_user_who_may_not_list_access_requests_gets_an_answer(cluster: FakeAccessCluster) -> None:
    await put_connector(cluster)
    where = ACCESS_REQUESTS.path("a")
    cluster.server.faults.append(lambda request: refusal(403, "Forbidden", "no") if request.path == where else None)
    assert (await cluster.run("can-i get pods --connector a/prod --source kubernetes")).out == "yes\n"
