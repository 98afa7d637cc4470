"""A kubeconfig that renews itself: real kubectl runs `connectorctl credential`, and again when its token has ended."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from connectorctl.exec_credential import EXPIRY_LEEWAY
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.proxy.informer import assert_informer_recovers
from tests.cluster.proxy.proxied_connector import TARGET_USER, manifests, target_token
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy

LIFE = 2.0
"""Seconds until the first token counts as ended."""
PATIENT = 600.0


@pytest.mark.timeout(1500)
def test_kubectl_gets_a_new_token_from_the_plugin_after_expiry(control_plane: ControlPlane, tmp_path: Path) -> None:
    namespace = control_plane.create_namespace("exec")
    raw, secret = manifests(control_plane, target_token(control_plane, namespace))
    connector = parse_connector(raw)
    assert isinstance(connector, Connector)
    proxy = RunningProxy(tmp_path / "proxy")
    proxy.write("k8s.yaml", raw, secret)
    path = tmp_path / "kubeconfig"
    with proxy:
        make_kubeconfig(proxy, connector, path)
        assert "eyJ" not in path.read_text()
        kubectl = Kubectl(control_plane.kubectl.program, path)
        identity = kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        assert identity == f"system:serviceaccount:{namespace}:{TARGET_USER}"
        runs = count_runs(path, tmp_path / "runs")
        before: list[int] = []

        def has_expired() -> None:
            before.append(runs())
            end = time.monotonic() + LIFE
            wait_until(lambda: time.monotonic() > end, "the end of the first token")

        assert_informer_recovers(
            control_plane,
            proxy,
            kubectl,
            namespace,
            timeout=PATIENT,
            write_token=lambda: None,
            expire_token=has_expired,
        )
        assert runs() > before[0]


def make_kubeconfig(proxy: RunningProxy, connector: Connector, path: Path) -> None:
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("connectorctl")), "kubeconfig", str(connector.key)),
            *("--exec", "--ttl", f"{EXPIRY_LEEWAY + LIFE:.0f}s", "-o", str(path)),
            *("--source", str(proxy.manifests), "--confdir", str(proxy.confdir)),
            *("--proxy", f"http://127.0.0.1:{proxy.port}"),
        ],
        capture_output=True,
        text=True,
        timeout=WAIT_TIMEOUT,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("KUBERNETES_")},
    )
    assert done.returncode == 0, done.stderr


def count_runs(path: Path, runs: Path) -> Callable[[], int]:
    """Counts how often kubectl runs the plugin, by a program that it runs in its place."""
    config = yaml.safe_load(path.read_text())
    plugin = config["users"][0]["user"]["exec"]
    before = path.with_name("before")
    before.write_text(f'#!/bin/sh\necho >> {runs}\nexec {plugin["command"]} "$@"\n')
    before.chmod(0o755)
    plugin["command"] = str(before)
    path.write_text(yaml.safe_dump(config))
    return lambda: len(runs.read_text().splitlines())
