"""The shared settings with a real API server: a proxy that may not read them yet waits, and logs it."""

from pathlib import Path

from lab.control_plane import ControlPlane
from lab.waiting import wait_until
from tests.cluster.kube.served_connector import ServedConnector, checked_connect, cluster_proxy, connect


def refusal_status(status: int, text: str) -> int | None:
    """Return the status of a response that says that the settings are forbidden."""
    return status if "connectors-config" in text and "forbidden" in text else None


def test_in_a_pod_a_proxy_waits_for_the_right_to_its_settings(
    plane: ControlPlane, served: ServedConnector, tmp_path: Path
) -> None:
    system = served.namespace
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "connectors-config"}}
    plane.api.apply({**config_map, "data": {"audience": "another"}}, namespace=system)
    waiting = cluster_proxy(
        tmp_path / "waiting",
        plane,
        options={"connector_source": "kubernetes:test", "connector_system_namespace": system},
        environment={"KUBERNETES_SERVICE_HOST": "10.96.0.1"},
    )
    authority = plane.url.removeprefix("https://")
    waiting.start()
    try:
        # A busy API server may not respond to the first attempt in time, which is another reason.
        status = wait_until(lambda: refusal_status(*waiting.admin("/readyz")), "the proxy to say what it waits for")
        assert status == 503
        assert connect(waiting, served.key, served.caller_token(), authority).status == 503
        plane.kubectl("create", "role", "settings", "--verb=list", "--resource=configmaps", namespace=system)
        plane.kubectl(
            "create", "rolebinding", "settings", "--role=settings",
            "--serviceaccount=connectors-system:connectors-proxy", namespace=system,
        )  # fmt: skip
        wait_until(lambda: waiting.admin("/readyz")[0] == 200, "the proxy to be ready")
        assert checked_connect(waiting, served.key, served.caller_token(audience="another"), authority).status == 200
        assert checked_connect(waiting, served.key, served.caller_token(), authority).status == 407
    finally:
        waiting.__exit__(None, None, None)
    printed = waiting.log.read_text(errors="replace")
    assert printed.count('configmaps "connectors-config" in namespace') <= 2
