"""One more namespace is served by a proxy that runs, and the live connections of the others stay open."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.control_plane import ControlPlane
from lab.waiting import fastest, wait_until
from tests.cluster.kube.installation import SYSTEM, account_subject, bind, grant_use
from tests.cluster.kube.served_connector import KubectlWatch, ServedConnector, cluster_proxy
from tests.cluster.proxy.running_proxy import RunningProxy

EVERYWHERE = "connectors-proxy-namespace"
ACCEPTABLE = 5.0
"""Seconds from the change to the first request that goes through."""

pytestmark = pytest.mark.timeout(900)


def configure(plane: ControlPlane, namespaces: str) -> None:
    data = {"namespaces": namespaces}
    metadata = {"name": "connectors-config"}
    plane.api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}, namespace=SYSTEM)


def bind_proxy(plane: ControlPlane, namespace: str) -> None:
    bind(plane, namespace, EVERYWHERE, subject=account_subject(SYSTEM, "connectors-proxy"), name=EVERYWHERE)


def prepare(plane: ControlPlane, proxy: RunningProxy, namespace: str) -> ServedConnector:
    """Create a namespace with all that a Connector needs, but without the proxy's right to read it."""
    plane.create_namespace(namespace)
    plane.create_service_account(namespace, "target")
    bind(plane, namespace, "cluster-admin", subject=account_subject(namespace, "target"), name="target")
    grant_use(plane, namespace, subject=account_subject(namespace))
    served = ServedConnector(plane=plane, proxy=proxy, namespace=namespace)
    served.apply()
    return served


def is_refused(served: ServedConnector) -> bool:
    response = served.connect(served.caller_token())
    return response.status == 503 and "is not served" in response.phrase


def measure_change(change: Callable[[], None], served: ServedConnector) -> float:
    """Return the seconds from the change until a request goes through."""
    kubectl, started_at = served.kubectl(), time.monotonic()
    change()
    wait_until(lambda: served.whoami(kubectl) == "target", f"{served.namespace} to be served")
    return time.monotonic() - started_at


def test_a_namespace_is_served_within_seconds_and_no_stream_is_closed(
    private_plane: ControlPlane, tmp_path: Path
) -> None:
    plane = private_plane
    plane.kubectl("delete", "clusterrolebinding", EVERYWHERE)
    configure(plane, "RoleBinding")
    proxy = cluster_proxy(tmp_path / "proxy", plane)
    team_a = prepare(plane, proxy, "team-a")
    bind_proxy(plane, "team-a")
    team_b, team_c = prepare(plane, proxy, "team-b"), prepare(plane, proxy, "team-c")
    with proxy:
        team_a.wait_until_synced()
        with KubectlWatch(team_a.kubectl(), "configmaps", namespace="team-a", log=tmp_path / "watch.log") as watch:

            def change(name: str) -> None:
                plane.kubectl.run("create", "configmap", name, namespace="team-a")
                plane.kubectl(
                    "label", "configmap", name, f"at={time.monotonic_ns()}", "--overwrite", namespace="team-a"
                )

            def sees(name: str) -> bool:
                change(name)
                return watch.has_seen(name)

            watch.wait_until_open(lambda: change("first"), "first")
            pid = proxy.process.pid

            def measure_binding() -> float:
                seconds = measure_change(lambda: bind_proxy(plane, "team-b"), team_b)
                plane.kubectl("delete", "rolebinding", EVERYWHERE, namespace="team-b")
                wait_until(lambda: is_refused(team_b), "a namespace without its RoleBinding is not served any more")
                return seconds

            def measure_setting() -> float:
                configure(plane, "team-a,team-gone")
                wait_until(lambda: is_refused(team_c), "a namespace that the setting does not list is not served")
                return measure_change(lambda: configure(plane, "team-a,team-c,team-gone"), team_c)

            wait_until(lambda: is_refused(team_b), "a namespace without a RoleBinding is not served")
            assert fastest(measure_binding, ACCEPTABLE) < ACCEPTABLE, "by its RoleBinding"
            configure(plane, "team-a,team-gone")
            bind_proxy(plane, "team-c")
            wait_until(lambda: "team-gone" in proxy.log.read_text(), "the missing namespace to be tried")
            wait_until(lambda: is_refused(team_c), "a namespace that the setting does not list is not served")
            assert fastest(measure_setting, ACCEPTABLE) < ACCEPTABLE, "by its name in the setting"

            wait_until(lambda: sees("last"), "the watch to go on")
            assert watch.is_running
            assert proxy.process.pid == pid
            assert proxy.admin("/readyz")[0] == 200
