"""A pod that uses a Connector to the cluster it runs in, so that exec, logs and port-forward have a kubelet behind."""

import subprocess
from collections.abc import Sequence
from typing import Any

from lab import manifests
from lab.control_plane import ControlPlane
from tests.journey.product import Product

NAMESPACE = "team-b"
CONNECTOR = "here"
WORKER = "worker"
OTHER = "other"


class Worker:
    """`run("get", "pods")` is kubectl in that pod, with nothing but the volume's kubeconfig."""

    def __init__(self, product: Product) -> None:
        self.product = product
        kubectl = product.kubectl
        kubectl("create", "namespace", NAMESPACE)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=150s", namespace=NAMESPACE)
        kubectl("create", "serviceaccount", "target", namespace=NAMESPACE)
        kubectl(
            "create",
            "rolebinding",
            "t",
            "--clusterrole=admin",
            f"--serviceaccount={NAMESPACE}:target",
            namespace=NAMESPACE,
        )
        kubectl(
            "create",
            "rolebinding",
            "u",
            "--clusterrole=connectors-user",
            f"--serviceaccount={NAMESPACE}:default",
            namespace=NAMESPACE,
        )
        self.token = kubectl("create", "token", "target", "--duration=48h", namespace=NAMESPACE).strip()
        product.api.apply(*connector(CONNECTOR, product.node.control_plane, self.token), namespace=NAMESPACE)
        kubectl("run", OTHER, f"--image={product.node.box_image}", namespace=NAMESPACE)
        product.api.apply(worker_pod(product.node.box_image), namespace=NAMESPACE)
        for pod in (WORKER, OTHER):
            product.node.wait_for_pod(pod, NAMESPACE)

    def command(self, *arguments: str) -> list[str]:
        """kubectl in the worker, as a command of the test's machine."""
        return self.product.kubectl.command(*_inside(arguments), namespace=NAMESPACE)

    def run(
        self, *arguments: str, stdin: str = "", environment: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """`environment` has NAME=VALUE for kubectl."""
        command = _inside(arguments, environment)
        return self.product.kubectl.run(*command, namespace=NAMESPACE, stdin=stdin, timeout=300)

    def must(self, *arguments: str, stdin: str = "", environment: Sequence[str] = ()) -> str:
        done = self.run(*arguments, stdin=stdin, environment=environment)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.product.state()}"
        return done.stdout

    def shell(self, script: str) -> str:
        """A shell in the worker."""
        done = self.product.kubectl.run("exec", WORKER, "--", "sh", "-euc", script, namespace=NAMESPACE, timeout=300)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.product.state()}"
        return done.stdout


def connector(name: str, plane: ControlPlane, token: str) -> list[dict[str, Any]]:
    """A Connector for the API server of `plane`, and the Secret of the same name."""
    return [manifests.secret(name, token=token, ca=plane.ca_pem), manifests.connector(name, plane.url)]


def _inside(arguments: Sequence[str], environment: Sequence[str] = ()) -> list[str]:
    return ["exec", "-i", WORKER, "--", "env", *environment, "kubectl", "--namespace", NAMESPACE, *arguments]


def worker_pod(image: str, name: str = WORKER, **attributes: str) -> dict[str, Any]:
    """With a volume of Connector `here`, or of `attributes`."""
    volume_attributes = {"connector.name": CONNECTOR, "configuration.names": "kubeconfig,kubeconfig-rotating"} | {
        key.replace("_", "."): value for key, value in attributes.items()
    }
    volume = {"driver": "connectors-csi", "readOnly": True, "volumeAttributes": volume_attributes}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            # Not 0: then the object is gone at once, while its volume is still being taken away.
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "box",
                    "image": image,
                    "env": [{"name": "KUBECONFIG", "value": "/connector/kubeconfig"}],
                    "volumeMounts": [{"name": "connector", "mountPath": "/connector"}],
                }
            ],
            "volumes": [{"name": "connector", "csi": volume}],
        },
    }
