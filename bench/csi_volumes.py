"""Measure the CSI driver with 100 volumes on one node: memory, and CPU of a round of republishing.

    python -m bench.csi_volumes [--volumes 100] [--rounds 30] [--json FILE]     # as root

The driver runs as a process beside a real API server, and this program calls it as kubelet does. Its mounts are in a
mount namespace that ends with the process. CPU is the user and system time of all threads of the driver.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc

from bench.checkout import ROOT
from bench.output import make_parser, write_figures
from bench.process import read_usage
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from lab.control_plane import ControlPlane
from lab.process import Process
from lab.scratch import scratch_folder

NAMESPACE: Final = "team-a"
CONNECTORS: Final = 10
CA: Final = "-----BEGIN CERTIFICATE-----\n" + "x" * 1200 + "\n-----END CERTIFICATE-----\n"


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--volumes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    figures = measure(options.volumes, options.rounds)
    write_figures(figures, options.json)
    return 0


def measure(volumes: int, rounds: int) -> dict[str, Any]:
    with scratch_folder() as folder, ControlPlane(folder / "plane") as plane:
        install(plane)
        tokens = [plane.issue_token(NAMESPACE, "default", audiences=["connectors-proxy"]) for _ in range(volumes)]
        renewed = [plane.issue_token(NAMESPACE, "default", audiences=["connectors-proxy"]) for _ in range(volumes)]
        with (
            driver(plane) as (root, process),
            grpc.insecure_channel(f"unix://{root}/plugins/connectors-csi/csi.sock") as channel,
        ):
            return measure_volumes(csi_pb2_grpc.NodeStub(channel), root, process, (tokens, renewed), rounds)


def measure_volumes(
    node: Any, root: Path, process: Process, tokens: tuple[list[str], list[str]], rounds: int
) -> dict[str, Any]:
    first, renewed = tokens
    volumes = len(first)
    for number in range(volumes):
        target_path(root, number).parent.mkdir(parents=True)

    def publish(tokens: list[str]) -> None:
        for number, token in enumerate(tokens):
            node.NodePublishVolume(make_publish_request(root, number, token))

    def unpublish() -> None:
        for number in range(volumes):
            publish_request = make_publish_request(root, number, "")
            node.NodeUnpublishVolume(
                csi_pb2.NodeUnpublishVolumeRequest(
                    volume_id=publish_request.volume_id, target_path=publish_request.target_path
                )
            )

    started = time.perf_counter()
    cpu_first = measure_cpu(process.pid, lambda: publish(first))
    seconds = time.perf_counter() - started

    def republish() -> None:
        for _ in range(rounds):
            publish(first)

    cpu_same = measure_cpu(process.pid, republish)
    cpu_new = measure_cpu(process.pid, lambda: publish(renewed))
    resident = round(process.resident_kb / 1024, 1)
    unpublish()
    return {
        "volumes": volumes,
        "publish_s": round(seconds, 2),
        "publish_cpu_ms_per_volume": round(cpu_first / volumes * 1e3, 2),
        "republish_unchanged_cpu_ms_per_volume": round(cpu_same / rounds / volumes * 1e3, 3),
        "republish_new_token_cpu_ms_per_volume": round(cpu_new / volumes * 1e3, 2),
        "resident_mb": resident,
    }


def target_path(root: Path, number: int) -> Path:
    return root / "pods" / f"uid-{number}" / "volumes" / "kubernetes.io~csi" / "connector" / "mount"


def make_publish_request(root: Path, number: int, token: str) -> csi_pb2.NodePublishVolumeRequest:
    """Return the request as kubelet sends it."""
    names = {"pod.name": f"pod-{number}", "pod.namespace": NAMESPACE, "pod.uid": f"uid-{number}", "ephemeral": "true"}
    context = {f"csi.storage.k8s.io/{key}": value for key, value in names.items()}
    context |= {
        "csi.storage.k8s.io/serviceAccount.name": "default",
        "connector.name": f"k8s-{number % CONNECTORS}",
        "configuration.names": "kubeconfig",
    }
    message = csi_pb2.NodePublishVolumeRequest(
        volume_id=f"csi-{number}",
        target_path=str(target_path(root, number)),
        readonly=True,
        volume_context=context,
        secrets={"csi.storage.k8s.io/serviceAccount.tokens": json.dumps({"connectors-proxy": {"token": token}})},
    )
    message.volume_capability.mount.SetInParent()
    return message


def install(plane: ControlPlane) -> None:
    kubectl = plane.kubectl
    kubectl("apply", "--server-side", "-k", str(ROOT / "deploy/crds"))
    kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
    for part in ("system/namespace", "rbac/users"):
        kubectl("apply", "-f", str(ROOT / "deploy" / f"{part}.yaml"))
    plane.create_namespace(NAMESPACE)
    ca = {"name": "connectors-proxy-ca", "namespace": "connectors-system"}
    plane.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": ca, "data": {"ca.crt": CA}})
    for number in range(CONNECTORS):
        spec = {"connectorClassName": "k8s", "address": "https://10.0.0.1:6443"}
        meta = {"name": f"k8s-{number}", "namespace": NAMESPACE}
        group = "connectors.alauda.io/v1alpha1"
        plane.api.apply({"apiVersion": group, "kind": "Connector", "metadata": meta, "spec": spec})
    account = f"--serviceaccount={NAMESPACE}:default"
    kubectl("create", "rolebinding", "use", "--clusterrole=connectors-user", account, namespace=NAMESPACE)


@contextmanager
def driver(plane: ControlPlane) -> Iterator[tuple[Path, Process]]:
    """Run the driver; yield the root folder of kubelet and the process."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        raise SystemExit("error: mounting needs root, and unshare of util-linux")
    # A short path: sockets have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="csi-", dir="/tmp") as folder:
        root = Path(folder)
        program = [sys.executable, "-m", "connector_csi", f"--kubeconfig={plane.kubeconfig}", "--node-name=node"]
        command = [unshare, "--mount", "--propagation", "private", *program, f"--kubelet-root={root}"]
        process = Process([*command, "--admin=127.0.0.1:0"], log=root / "csi.log")
        process.start()
        try:
            process.wait_until((root / "plugins_registry" / "connectors-csi-reg.sock").exists, timeout=60)
            yield root, process
        finally:
            process.stop()


def measure_cpu(pid: int, work: Callable[[], None]) -> float:
    """Return the CPU seconds of the process during `work`."""
    before = read_usage(pid).cpu
    work()
    return read_usage(pid).cpu - before


if __name__ == "__main__":
    sys.exit(main())
