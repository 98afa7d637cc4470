"""A long-lived client-go program on kubeconfig-rotating: kubectl wait is an informer, and outlives its first token."""

import subprocess
import time
from pathlib import Path

import pytest

from connector_store.domain.kubeconfig import TOKEN_FILE, Entry, render
from connector_store.domain.manifest import parse_connector
from connector_store.domain.models import Connector
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import until
from tests.cluster.proxy.proxied import manifests, target_token
from tests.cluster.proxy.running import RunningProxy

FIRST = 20
"""Seconds that the first token lives."""
PATIENT = 240.0
"""client-go reads the file again once a minute, and backs off between attempts."""


@pytest.mark.timeout(420)
def test_an_informer_goes_on_with_the_token_that_replaced_its_first(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    namespace = control_plane.new_namespace("rotating")
    raw, secret = manifests(control_plane, target_token(control_plane, namespace))
    connector = parse_connector(raw)
    assert isinstance(connector, Connector)
    control_plane.kubectl("create", "configmap", "flag", "--from-literal=state=new", namespace=namespace)
    proxy = RunningProxy(tmp_path / "proxy")
    proxy.write("k8s.yaml", raw, secret)
    with proxy:
        entry = Entry(
            key=connector.key,
            address=connector.address,
            proxy=f"http://127.0.0.1:{proxy.port}",
            ca=proxy.ca(),
            token="",
        )
        path = tmp_path / "kubeconfig-rotating"
        path.write_text(render([entry], rotating=True))
        token = tmp_path / TOKEN_FILE
        token.write_text(proxy.token(connector.key, ttl=FIRST))
        expires = time.monotonic() + FIRST
        kubectl = Kubectl(control_plane.kubectl.program, path)
        wait = ("wait", "configmap/flag", "--for=jsonpath={.data.state}=old", f"--timeout={PATIENT:.0f}s")
        with subprocess.Popen(
            kubectl.command(*wait, namespace=namespace),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=kubectl.environment,
        ) as waiting:
            try:
                until(lambda: _watches(proxy), "the informer's watch")
                draft = tmp_path / "draft"
                draft.write_text(proxy.token(connector.key))
                draft.replace(token)
                until(lambda: time.monotonic() > expires, "the end of the first token")
                proxy.process.kill()
                proxy.process.start()
                until(lambda: proxy.admin("/readyz")[0] == 200, "the proxy to be back")
                control_plane.kubectl(
                    "patch", "configmap", "flag", "--type=merge", "-p", '{"data":{"state":"old"}}', namespace=namespace
                )
                output, errors = waiting.communicate(timeout=PATIENT)
            finally:
                waiting.kill()
    assert (waiting.returncode, output) == (0, "configmap/flag condition met\n"), errors


def _watches(proxy: RunningProxy) -> bool:
    lines = proxy.admin("/metrics")[1].splitlines()
    return any(each.startswith("connector_streams_active{") and each.endswith(" 1.0") for each in lines)
