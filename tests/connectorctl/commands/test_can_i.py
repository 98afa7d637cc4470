"""`connectorctl can-i`."""

from pathlib import Path

import pytest

from tests.connectorctl.typed import Type

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
    ("line", "code", "out", "says"),
    [
        ("delete deployments.apps -n web --connector default/limited", 0, "yes", "by ClusterRole edit"),
        ("delete deployments.apps --connector default/limited", 1, "no", "no ClusterRole of allow has it"),
        ("get secrets a -n web --connector default/limited", 1, "no", "denied by ClusterRole connectors-credentials"),
        ("update deployments.apps -n web --connector default/limited", 1, "no", "denied by"),
        ("get /metrics --connector default/limited", 1, "no", "no ClusterRole"),
        ("get /api --connector default/limited", 0, "yes", "by ClusterRole system:discovery"),
        ("get secrets --connector default/free", 0, "yes", "not limited"),
        ("get secrets --connector default/but", 0, "yes", "all but what deny names"),
        ("get secrets --connector default/broken", 1, "", 'secrets "none" not found'),
        ("get secrets --connector default/absent", 1, "", '"absent" not found'),
        ("get secrets", 2, "", "--connector"),
    ],
)
def test_the_answer_is_one_word_and_the_reason_is_told(
    typed: Type, place: Path, line: str, code: int, out: str, says: str
) -> None:
    (place / "connectors").mkdir()
    (place / "connectors" / "all.yaml").write_text(LIMITED)
    done = typed(f"can-i {line}")
    assert (done.code, done.out.strip()) == (code, out)
    assert says in done.err
