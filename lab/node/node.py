"""A whole Kubernetes node: control plane, controllers, scheduler, kubelet, containerd, Services, DNS, pod network.

It must run in the namespaces of `isolation.py`. The folder of kubelet is /var/lib/kubelet, as on every node.
"""

import socket
import subprocess
import time
from pathlib import Path

from lab.control_plane import SERVICE_ADDRESS, ControlPlane
from lab.kubectl import certificate_user
from lab.node import configuration
from lab.node.isolation import ADDRESS, run_folder
from lab.node.oci_image import BOX_IMAGE, write_box_image
from lab.node.requirements import find_program, search_path
from lab.process import Process, Startable
from lab.programs import node_programs

KUBELET_ROOT = Path("/var/lib/kubelet")
READY_TIMEOUT = 420.0
"""Seconds until each program must be ready. All programs together need 8 on an idle machine."""
POD_TIMEOUT = 400.0
"""Seconds until a pod must be ready on a busy machine. The back-off of kubelet for volumes reaches 2 minutes."""


class Node(Startable):
    """`with Node(folder) as node: node.kubectl("run", "a", "--image", node.box)`"""

    box_image = BOX_IMAGE
    address = ADDRESS
    kubelet_root = KUBELET_ROOT

    def __init__(self, folder: Path, *, sync_frequency: str = configuration.SYNC_FREQUENCY) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._programs = node_programs()
        self._path = ":".join([*map(str, self._programs), search_path()])
        admin = folder / "admin.crt", folder / "admin.key"
        self.control_plane = ControlPlane(
            folder,
            programs=self._programs[0],
            address=ADDRESS,
            arguments=[
                "--enable-admission-plugins=NodeRestriction",
                "--endpoint-reconciler-type=lease",
                f"--kubelet-client-certificate={admin[0]}",
                f"--kubelet-client-key={admin[1]}",
                "--kubelet-preferred-address-types=InternalIP",
            ],
        )
        self.kubectl, self.api = self.control_plane.kubectl, self.control_plane.api
        self.containerd_socket = Path("/run/containerd/containerd.sock")
        self._controllers = [self._controller_manager(), self._scheduler(), self._coredns()]
        self._kube_proxy = self._make_kube_proxy()
        self._containerd = self._make_containerd()
        self.kubelet = self._make_kubelet(sync_frequency)

    def start(self) -> None:
        """Start all programs, and wait until the node is Ready and pods can be created."""
        self._containerd.start()
        self.control_plane.start()
        for process in self._controllers:
            process.start()
        self._containerd.wait_until(lambda: self.ctr("version").returncode == 0, timeout=READY_TIMEOUT)
        box = self.folder / "box.tar"
        write_box_image(box, busybox=Path(find_program("busybox")), kubectl=self.control_plane.programs / "kubectl")
        self.import_image(box)
        box.unlink()
        self.start_kubelet()
        # kube-proxy ends if the node gets its address more than 30 s after it started (NewNodeManager, OnNodeChange).
        self._kube_proxy.start()
        self._kube_proxy.wait_until(_is_service_reachable, timeout=READY_TIMEOUT)
        self._controllers[0].wait_until(self._has_default_account, timeout=READY_TIMEOUT)

    def close(self) -> None:
        """End the programs. Containers, mounts and addresses end with the namespaces."""
        for process in (self.kubelet, self._kube_proxy, *self._controllers, self._containerd):
            process.kill()
        self.control_plane.close()

    def start_kubelet(self) -> None:
        self.kubelet.start()
        self.kubelet.wait_until(self._is_ready, timeout=READY_TIMEOUT)

    def restart_kubelet(self) -> None:
        """Restart kubelet, which then requests new ServiceAccount tokens for every volume. Pods keep running."""
        self.kubelet.stop()
        restarted_at = time.time()
        self.kubelet.start()
        self.kubelet.wait_until(lambda: self._is_ready(restarted_at), timeout=READY_TIMEOUT)

    def import_image(self, archive: Path) -> None:
        """Import an OCI or Docker archive that has a name. Pods must not have the imagePullPolicy Always."""
        result = self.ctr("images", "import", str(archive))
        if result.returncode != 0:
            raise RuntimeError(f"cannot import {archive}: {result.stderr}")

    def ctr(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._programs[1] / "ctr"), "-a", str(self.containerd_socket), "-n", "k8s.io", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_TIMEOUT)

    def wait_for_pod(self, name: str, namespace: str, *, condition: str = "condition=Ready") -> None:
        """Wait for a condition of a pod. Raise RuntimeError with the events of the pod on timeout."""
        result = self.kubectl.run(
            "wait",
            f"--for={condition}",
            f"pod/{name}",
            f"--timeout={POD_TIMEOUT:.0f}s",
            namespace=namespace,
            timeout=READY_TIMEOUT,
        )
        if result.returncode != 0:
            raise RuntimeError(
                f"{result.stderr}\n{self.kubectl.run('describe', 'pod', name, namespace=namespace).stdout}"
            )

    def _is_ready(self, heartbeat_after: float = 0.0) -> bool:
        node = self.control_plane.api.request("GET", f"/api/v1/nodes/{configuration.NODE}")
        if node.status != 200:
            return False
        conditions = {entry["type"]: entry for entry in node.json()["status"].get("conditions", [])}
        heartbeat = conditions.get("Ready", {}).get("lastHeartbeatTime", "")
        earliest = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(heartbeat_after))
        return bool(conditions.get("Ready", {}).get("status") == "True" and heartbeat >= earliest)

    def _has_default_account(self) -> bool:
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        return self.control_plane.api.request("GET", path).status == 200

    def _process(self, module: int, *command: str) -> Process:
        name = command[0]
        path = self._programs[module] / name
        return Process([path, *command[1:]], log=self.folder / f"{name}.log", environment={"PATH": self._path})

    def _controller_manager(self) -> Process:
        plane = self.control_plane
        return self._process(
            0,
            "kube-controller-manager",
            f"--kubeconfig={plane.kubeconfig}",
            f"--service-account-private-key-file={plane.service_account_key}",
            f"--root-ca-file={plane.ca.certificate}",
            "--use-service-account-credentials",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        )

    def _scheduler(self) -> Process:
        kubeconfig = f"--kubeconfig={self.control_plane.kubeconfig}"
        return self._process(0, "kube-scheduler", kubeconfig, "--bind-address=127.0.0.1", "--leader-elect=false")

    def _make_kube_proxy(self) -> Process:
        path = self.folder / "kube-proxy.json"
        configuration.write_json(path, configuration.kube_proxy(self.control_plane.kubeconfig))
        return self._process(0, "kube-proxy", f"--config={path}")

    def _coredns(self) -> Process:
        path = self.folder / "Corefile"
        path.write_text(configuration.corefile(self.control_plane.kubeconfig, self.control_plane.url))
        return self._process(2, "coredns", "-conf", str(path))

    def _make_containerd(self) -> Process:
        folder = run_folder() / "containerd"
        configuration.write_json(folder / "cni" / "10-pods.conflist", configuration.cni())
        path = folder / "config.toml"
        path.write_text(configuration.containerd(folder, socket=self.containerd_socket))
        return self._process(1, "containerd", "--config", str(path))

    def _make_kubelet(self, sync_frequency: str) -> Process:
        plane = self.control_plane
        login = plane.ca.issue("kubelet", common_name=f"system:node:{configuration.NODE}", groups=["system:nodes"])
        values = configuration.kubelet(
            ca=plane.ca.certificate,
            socket=self.containerd_socket,
            cgroup=run_folder().name,
            sync_frequency=sync_frequency,
        )
        return self._process(
            0,
            "kubelet",
            f"--config={configuration.write_json(self.folder / 'kubelet.json', values)}",
            f"--kubeconfig={plane.write_kubeconfig('kubelet.kubeconfig', certificate_user(*login))}",
            f"--root-dir={KUBELET_ROOT}",
            f"--hostname-override={configuration.NODE}",
            f"--node-ip={ADDRESS}",
            "--v=2",
        )


def _is_service_reachable() -> bool:
    """Return True if the Service `kubernetes` leads to the API server."""
    try:
        socket.create_connection((SERVICE_ADDRESS, 443), timeout=5).close()
    except OSError:
        return False
    return True
