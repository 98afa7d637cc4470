"""Stock kubectl, directly by path, with targets that redirect: to their own pages, and to another server."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lab.control_plane import ControlPlane
from lab.manifests import connector, secret
from lab.targets import CA, run_target
from tests.cluster.proxy.proxied_connector import ProxiedConnector
from tests.cluster.proxy.running_proxy import RunningProxy

PAGE = "the page of the dashboard"


@contextmanager
def running_server(address: str) -> Iterator[tuple[int, list[str]]]:
    """A dashboard that redirects `/` to its page `/home/`.

    Yield its port, and the values of Authorization that it got.
    """
    authorizations: list[str] = []

    class Dashboard(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            authorizations.append(self.headers.get("Authorization", ""))
            if self.path == "/home/":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(PAGE.encode())
            else:
                self.send_response(302)
                self.send_header("Location", "/home/")
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer((address, 0), Dashboard) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server.server_port, authorizations
        server.shutdown()
        thread.join()


def own_address() -> str:
    """Return an address of this machine. API servers do not connect to pods on loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("end", ["/", ""], ids=["a slash at the end", "no slash at the end"])
def test_the_page_of_a_dashboard_behind_the_target(proxied: ProxiedConnector, end: str) -> None:
    """The dashboard redirects to its page, and without the slash at the end the API server redirects first."""
    plane, namespace = proxied.plane, proxied.namespace
    name = "dashboard" if end else "dashboard-2"
    pod = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "none"}]}}
    plane.api.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    status = {"podIP": own_address(), "podIPs": [{"ip": own_address()}]}
    patch = ("patch", "pod", name, "--subresource=status", "-p", json.dumps({"status": status}))
    plane.kubectl(*patch, namespace=namespace)
    kubectl = proxied.proxy.kubectl(plane.kubectl, proxied.connector, direct=True)
    with running_server(own_address()) as (port, authorizations):
        path = f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{end}"
        assert kubectl("get", "--raw", path) == PAGE
    assert set(authorizations) == {""}


def test_a_redirect_to_another_server_does_not_take_the_token_there(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    with running_server("127.0.0.1") as (port, authorizations), run_target() as target:
        manifest = connector("k8s", target.address, namespace="team-a")
        proxy = RunningProxy(tmp_path)
        proxy.write("k8s.yaml", manifest, secret("k8s", namespace="team-a", token="t", ca=CA.pem.decode()))
        with proxy:
            kubectl = proxy.kubectl(control_plane.kubectl, manifest, direct=True)
            for start in ("http://", "https://", "//"):
                location = f"Location: {start}127.0.0.1:{port}/home/"
                response = f"HTTP/1.1 307 Temporary Redirect\r\n{location}\r\nContent-Length: 0\r\n\r\n".encode()
                target.respond = partial(_same, response)
                result = kubectl.run("get", "namespaces")
                assert result.returncode != 0
                assert "redirects to another server, where the client would send its token" in result.stderr
    assert target.request_heads
    assert authorizations == []


def _same(response: bytes, _: bytes) -> bytes:
    return response
