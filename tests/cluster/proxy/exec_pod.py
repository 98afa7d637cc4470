"""A pod whose commands run on this machine, at a kubelet that only runs commands (scripts/go/gateway)."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.control_plane import ControlPlane
from lab.ports import Port
from lab.process import Process
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT


@contextmanager
def serve(plane: ControlPlane, program: Path, *arguments: str, home: Path) -> Iterator[int]:
    """Run a program of scripts/go/gateway with a certificate of the cluster's CA. Yield its port."""
    certificate, key = plane.ca.issue("gateway", common_name="gateway", hosts=["127.0.0.1"])
    port = Port()
    options = (f"-listen=127.0.0.1:{port.number}", f"-cert={certificate}", f"-key={key}", *arguments)
    process = Process([str(program), *options], log=home / f"{program.name}.log")
    try:
        process.start()
        process.wait_until(lambda: _is_listening(port.number), timeout=WAIT_TIMEOUT)
        yield port.number
    finally:
        process.kill()
        port.release()


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def exec_pod(plane: ControlPlane, namespace: str, programs: Path, *, home: Path) -> Iterator[None]:
    """Create the pod `p` of a namespace, on a node of its own."""
    with serve(plane, programs / "exec-kubelet", home=home) as port:
        plane.api.call("POST", "/api/v1/nodes", {"metadata": {"name": namespace}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        plane.api.call("PATCH", f"/api/v1/nodes/{namespace}/status", {"status": status})
        pod = {
            "metadata": {"name": "p"},
            "spec": {"nodeName": namespace, "containers": [{"name": "c", "image": "none"}]},
        }
        plane.api.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
        yield
