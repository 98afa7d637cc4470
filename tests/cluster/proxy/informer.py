"""A long-lived client-go program through a proxy: kubectl wait is an informer, and outlives its first token."""

import subprocess
from collections.abc import Callable

from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.waiting import wait_until
from tests.cluster.proxy.running_proxy import RunningProxy


def assert_informer_recovers(
    plane: ControlPlane,
    proxy: RunningProxy,
    kubectl: Kubectl,
    namespace: str,
    *,
    timeout: float,
    expire_token: Callable[[], None],
) -> None:
    """Check that an informer sees a change after a restart of the proxy, which closes its watch.

    `expire_token` makes its token invalid before that. `timeout` is the number of seconds for all of it.
    """
    plane.kubectl("create", "configmap", "flag", "--from-literal=state=new", namespace=namespace)
    wait = ("wait", "configmap/flag", "--for=jsonpath={.data.state}=old", f"--timeout={timeout:.0f}s")
    with subprocess.Popen(
        kubectl.command(*wait, namespace=namespace),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=kubectl.environment,
    ) as waiting:
        try:
            wait_until(lambda: _has_active_watch(proxy), "the informer's watch")
            expire_token()
            proxy.process.kill()
            proxy.process.start()
            wait_until(lambda: proxy.admin("/readyz")[0] == 200, "the proxy to be back")
            patch = '{"data":{"state":"old"}}'
            plane.kubectl("patch", "configmap", "flag", "--type=merge", "-p", patch, namespace=namespace)
            output, errors = waiting.communicate(timeout=timeout)
        finally:
            waiting.kill()
    assert (waiting.returncode, output) == (0, "configmap/flag condition met\n"), errors


def _has_active_watch(proxy: RunningProxy) -> bool:
    lines = proxy.admin("/metrics")[1].splitlines()
    return any(each.startswith("connector_streams_active{") and each.endswith(" 1.0") for each in lines)
