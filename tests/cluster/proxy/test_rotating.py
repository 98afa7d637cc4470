"""A long-lived client-go program on kubeconfig-rotating outlives its first token."""

import time
from pathlib import Path

import pytest

from connector_store.domain.kubeconfig.kubeconfig import (
    TOKEN_FILE,
    KubeconfigEntry,
    KubeconfigStyle,
    build_kubeconfig,
    to_yaml,
)
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.proxy.informer import assert_informer_recovers
from tests.cluster.proxy.proxied_connector import manifests, target_token
from tests.cluster.proxy.running_proxy import RunningProxy

FIRST = 40
"""Seconds that the first token lives: less than a minute, after which client-go reads the file again anyway."""
PATIENT = 600.0
"""client-go reads the file again once a minute, and backs off between attempts."""


@pytest.mark.waits
@pytest.mark.timeout(1500)
def test_an_informer_keeps_working_after_its_token_was_replaced(control_plane: ControlPlane, tmp_path: Path) -> None:
    namespace = control_plane.create_namespace("rotating")
    raw, secret = manifests(control_plane, target_token(control_plane, namespace))
    connector = parse_connector(raw)
    assert isinstance(connector, Connector)
    proxy = RunningProxy(tmp_path / "proxy")
    proxy.write("k8s.yaml", raw, secret)
    with proxy:
        entry = KubeconfigEntry(
            key=connector.key,
            address=connector.address,
            proxy=f"http://127.0.0.1:{proxy.port}",
            ca=proxy.ca_pem(),
            token="",
        )
        path = tmp_path / "kubeconfig-rotating"
        path.write_text(to_yaml(build_kubeconfig([entry], KubeconfigStyle(rotating=True))))
        token = tmp_path / TOKEN_FILE
        kubectl = Kubectl(control_plane.kubectl.program, path)
        written_at: list[float] = []

        def write() -> None:
            if not written_at or has_expired():
                written_at.append(time.monotonic())
                token.write_text(proxy.token(connector.key, ttl=FIRST))

        def has_expired() -> bool:
            return time.monotonic() > written_at[-1] + FIRST + 1

        def renew() -> None:
            draft = tmp_path / "draft"
            draft.write_text(proxy.token(connector.key))
            draft.replace(token)
            wait_until(has_expired, "the end of the first token")

        assert_informer_recovers(
            control_plane, proxy, kubectl, namespace, timeout=PATIENT, write_token=write, expire_token=renew
        )
