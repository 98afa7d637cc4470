"""SIGTERM while kubectl watches: the watch goes on for the drain time, ends as whole, and the proxy exits with 0."""

import signal
import socket
import subprocess
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.waiting import wait_until
from tests.cluster.proxy.proxied_connector import manifests, target_token
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy


def accepts(proxy: RunningProxy) -> bool:
    try:
        socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize("end", ["the client", "the drain time"])
def test_a_live_watch_stays_open_after_sigterm_until(end: str, control_plane: ControlPlane, tmp_path: Path) -> None:
    namespace = control_plane.create_namespace(f"drain-{end.split()[-1]}")
    connector, secret = manifests(control_plane, target_token(control_plane, namespace))
    # Where the client ends it, the drain time must not: any test is over by then.
    seconds = "600" if end == "the client" else "3"
    proxy = RunningProxy(tmp_path / "proxy", options={"connector_drain": seconds}, program="mitmdump")
    proxy.write("k8s.yaml", connector, secret)
    with proxy:
        kubectl = proxy.kubectl(control_plane.kubectl, connector)
        # kubectl reports a truncated raw response, and exits with 1.
        command = kubectl.command("get", "--raw", f"/api/v1/namespaces/{namespace}/configmaps?watch=1")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=kubectl.environment
        ) as watch:
            try:
                wait_until(lambda: proxy.has_active_watch(), "the watch")
                proxy.process.signal(signal.SIGTERM)
                wait_until(lambda: not accepts(proxy), "the listener to close")
                if end == "the client":
                    control_plane.kubectl("create", "configmap", "seen", namespace=namespace)
                    assert watch.stdout is not None
                    assert '"name":"seen"' in watch.stdout.readline()
                    watch.kill()
                assert proxy.process.wait(WAIT_TIMEOUT) == 0
                output, _ = watch.communicate(timeout=WAIT_TIMEOUT)
            finally:
                watch.kill()
    if end == "the drain time":
        assert (watch.returncode, output) == (0, "")
    [stream] = [each for each in proxy.audit() if each["event"] == "stream" and each["verb"] == "watch"]
    assert stream["reason"] == ("the proxy ends" if end == "the drain time" else "the client closed the connection")
