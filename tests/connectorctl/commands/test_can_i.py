"""`connectorctl can-i`."""

from pathlib import Path

import pytest

from tests.connectorctl.cli_result import RunCli

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
  permissions: {deny: [{clusterRole: connectors-read-only, namespaces: [kube-system]}]}
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
        ("delete deployments.apps -n web --connector default/limited", 0, "yes", "by ClusterRole edit"),
        ("delete deployments.apps --connector default/limited", 1, "no", "no ClusterRole of allow has it"),
        ("get secrets a -n web --connector default/limited", 1, "no", "denied by ClusterRole connectors-credentials"),
        ("update deployments.apps -n web --connector default/limited", 1, "no", "denied by"),
        ("get /metrics --connector default/limited", 1, "no", "no ClusterRole"),
        ("get /api --connector default/limited", 0, "yes", "by ClusterRole system:discovery"),
        ("get secrets --connector default/free", 0, "yes", "not limited"),
        ("get secrets --connector default/but", 0, "yes", "all but what deny names"),
        ("get secrets --connector default/narrow", 1, "no", "denied by ClusterRole connectors-read-only"),
        ("list secrets --connector default/narrow", 1, "no", "denied by ClusterRole connectors-read-only"),
        ("list secrets -n web --connector default/narrow", 0, "yes", "all but what deny names"),
        ("get /k8s/a/api/v1 --connector default/but", 1, "no", 'it needs "get" on /k8s/a/api/v1: an API may lie below'),
        ("get secrets --connector default/broken", 1, "", 'secrets "none" not found'),
        ("get secrets --connector default/absent", 1, "", '"absent" not found'),
        ("get secrets", 2, "", "--connector"),
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
