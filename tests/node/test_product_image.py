"""The product's image as kubelet runs it: without root, on a read-only root, each program by its argument."""

import json
from typing import Any

import pytest

from connector_store.version import VERSION
from lab.node.node import Node

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(image: str, name: str, **container: Any) -> dict[str, Any]:
    main = {"name": "main", "image": image, "securityContext": RESTRICTED, **container}
    state = {"name": "state", "emptyDir": {"medium": "Memory"}}
    main["volumeMounts"] = [{"name": "state", "mountPath": "/var/lib/kubernetes-connector"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"fsGroup": 65532},
            "containers": [main],
            "volumes": [state],
        },
    }


def finished(node: Node, namespace: str, manifest: dict[str, Any], *, phase: str = "Succeeded") -> str:
    """Run a pod until it ends in `phase`, and return its output."""
    name = manifest["metadata"]["name"]
    node.api.apply(manifest, namespace=namespace)
    node.wait_for_pod(name, namespace, condition=f"jsonpath={{.status.phase}}={phase}")
    return node.kubectl("logs", name, namespace=namespace)


@pytest.mark.parametrize(
    ("door", "arguments", "expected"),
    [
        ("proxy", ["--version"], f"kubernetes-connector {VERSION}"),
        ("controller", ["--version"], f"kubernetes-connector {VERSION}"),
        ("proxy", ["--options"], "connector_max_connections:"),
        ("csi", ["--help"], "CSI driver connectors-csi"),
    ],
)
def test_each_program_starts(
    node: Node, product_image: str, node_namespace: str, door: str, arguments: list[str], expected: str
) -> None:
    manifest = pod(product_image, "door", args=[door, *arguments])
    assert expected in finished(node, node_namespace, manifest)


def test_what_the_image_leaves_out_of_a_library_is_not_needed(
    node: Node, product_image: str, node_namespace: str
) -> None:
    """connectorctl reads a kubeconfig there too, and the programs do so with an option."""
    program = "import connector_store.kube.kubeconfig; print(connector_store.kube.kubeconfig.__name__)"
    manifest = pod(product_image, "reads", command=["/app/venv/bin/python", "-c", program])
    assert finished(node, node_namespace, manifest) == "connector_store.kube.kubeconfig\n"


@pytest.mark.parametrize("program", ["connectorctl", "kubectl-connector"])
def test_the_command_line_is_in_it(node: Node, product_image: str, node_namespace: str, program: str) -> None:
    manifest = pod(product_image, "ctl", command=[program, "version"])
    assert finished(node, node_namespace, manifest) == f"connectorctl {VERSION}\n"


def test_an_unknown_program_name_lists_the_programs(node: Node, product_image: str, node_namespace: str) -> None:
    manifest = pod(product_image, "other", args=["sh", "-c", "id"])
    assert "proxy | controller | csi" in finished(node, node_namespace, manifest, phase="Failed")


def test_it_runs_as_any_user_id_and_is_compiled(node: Node, product_image: str, node_namespace: str) -> None:
    script = (
        "import json, os, sys, importlib.util as u, mitmproxy, addons.relay.requests as lane;"
        "print(json.dumps({'uid': os.getuid(), 'pip': u.find_spec('pip') is not None,"
        " 'compiled': all(os.path.exists(each.__cached__) for each in (mitmproxy, lane)),"
        " 'writable': os.access('/app', os.W_OK)}))"
    )
    manifest = pod(product_image, "looks", command=["/app/venv/bin/python", "-c", script])
    assert json.loads(finished(node, node_namespace, manifest)) == {
        "uid": 65532,
        "pip": False,
        "compiled": True,
        "writable": False,
    }
