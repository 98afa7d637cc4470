"""The product on a node: its image, its target cluster, and shells that run what the documentation says."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.control_plane import ControlPlane
from lab.node.csi_driver import eventually
from lab.node.node import Node
from lab.process import Process, environment_without_proxies
from lab.programs import HELM, ensure_programs

ROOT = Path(__file__).parents[2]
KUBECTL_IMAGE = "registry.k8s.io/kubectl:v1.34.1"
"""Image of the documentation and the examples; here it is an alias of the node's box."""
TIMEOUT = 1200.0
"""Seconds for a shell with several commands on a busy machine."""
SYSTEM = "connectors-system"
NAMESPACES = (SYSTEM, "connectors-csi")


class Target:
    """Another cluster, with a CA and tokens of its own, that pods can reach."""

    def __init__(self, folder: Path, node: Node) -> None:
        self.plane = ControlPlane(folder, address=node.address)
        # The role `view` is empty until one has gathered its rules; the other writes tokens into Secrets.
        self._roles = Process(
            [
                self.plane.programs / "kube-controller-manager",
                f"--kubeconfig={self.plane.kubeconfig}",
                "--controllers=clusterrole-aggregation-controller,serviceaccount-token-controller",
                f"--service-account-private-key-file={self.plane.service_account_key}",
                "--leader-elect=false",
                "--secure-port=0",
            ],
            log=folder / "kube-controller-manager.log",
        )

    def start(self) -> None:
        self.plane.start()
        self._roles.start()

    def close(self) -> None:
        self._roles.kill()
        self.plane.close()


class Product:
    """`shell` runs in `folder`, where a reader of the documentation would be: the repository, with a kubeconfig."""

    def __init__(self, node: Node, target: Target, folder: Path) -> None:
        self.node = node
        self.kubectl, self.api = node.kubectl, node.api
        self.target = target.plane
        self.folder = folder
        folder.mkdir()
        for name in ("deploy", "charts"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copy(self.target.kubeconfig, folder / "target.kubeconfig")

    def tag_kubectl_image(self) -> None:
        tagged = self.node.ctr("images", "tag", "--force", self.node.box_image, KUBECTL_IMAGE)
        assert tagged.returncode == 0, tagged.stderr

    def shell(self, blocks: Sequence[str]) -> str:
        """Run the blocks and return their output; AssertionError with the product's state if a command fails.

        Timeouts of the blocks are longer here, because a busy machine is not a failure.
        """
        script = re.sub(r"--timeout \d+m", "--timeout 10m", "\n".join(blocks))
        environment = environment_without_proxies() | {
            "KUBECONFIG": str(self.node.control_plane.kubeconfig),
            "PATH": os.pathsep.join(
                [
                    str(self.kubectl.program.parent),
                    str(ensure_programs(HELM, ["helm"])),
                    os.environ["PATH"],
                    str(Path(sys.executable).parent),  # connectorctl
                ]
            ),
        }
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.state()}"
        return done.stdout

    def state(self) -> str:
        """For the message of a test that failed."""
        parts = [self.kubectl.run("get", "pods,connectors", "--all-namespaces", "-o", "wide").stdout]
        for namespace in NAMESPACES:
            parts.append(self.kubectl.run("describe", "pods", namespace=namespace).stdout)
            for pod in self.kubectl.run("get", "pods", "-o", "name", namespace=namespace).stdout.split():
                parts.append(f"{pod}:\n" + self.kubectl.run("logs", "--tail=40", pod, namespace=namespace).stdout)
        parts.append(self.kubectl.run("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp").stdout[-4000:])
        return "\n".join(parts)

    def eventually[T](self, poll: Callable[[], T | None]) -> T:
        """Like `eventually` of the CSI driver's tests, with the product's state in the error."""
        try:
            return eventually(poll)
        except AssertionError as error:
            error.add_note(self.state())
            raise

    def audit(self) -> list[dict[str, Any]]:
        """One entry for each request that the proxies which run now have carried. One that ends meanwhile has none.

        Lines about lines that a busy proxy has left out are not requests.
        """
        proxies = ["-l", "app.kubernetes.io/name=connectors-proxy", "-o", "name"]
        return [
            json.loads(line)
            for pod in self.kubectl("get", "pods", *proxies, namespace=SYSTEM).split()
            for line in self.kubectl.run("logs", pod, namespace=SYSTEM).stdout.splitlines()
            if line.startswith("{") and '"event":' in line and '"status":' in line
        ]

    def is_installed(self) -> bool:
        return self.kubectl.run("get", "csidriver", "connectors-csi").returncode == 0
