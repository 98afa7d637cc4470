"""A long-lived client-go program through a proxy: kubectl wait is an informer, and outlives its first token."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack

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
    write_token: Callable[[], object],
    expire_token: Callable[[], None],
) -> None:
    """Check that an informer sees a change after a restart of the proxy, which closes its watch.

    `write_token` writes its first token, unless a written one is still valid. `expire_token` makes it invalid before
    the restart. `timeout` is the number of seconds for all of it.
    """
    plane.kubectl("create", "configmap", "flag", "--from-literal=state=new", namespace=namespace)
    command = ("wait", "configmap/flag", "--for=jsonpath={.data.state}=old", f"--timeout={timeout:.0f}s")
    informers: list[subprocess.Popen[str]] = []

    def is_watching() -> bool:
        """Start an informer, again if it has ended. On a busy machine, its token may expire before it watches."""
        write_token()
        if not informers or informers[-1].poll() is not None:
            informers.append(
                stack.enter_context(
                    subprocess.Popen(
                        kubectl.command(*command, namespace=namespace),
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                        env=kubectl.environment,
                    )
                )
            )
        return proxy.has_active_watch()

    with ExitStack() as stack:
        try:
            wait_until(is_watching, "the informer's watch")
            waiting = informers[-1]
            expire_token()
            proxy.process.kill()
            proxy.process.start()
            wait_until(lambda: proxy.admin("/readyz")[0] == 200, "the proxy to be back")
            patch = '{"data":{"state":"old"}}'
            plane.kubectl("patch", "configmap", "flag", "--type=merge", "-p", patch, namespace=namespace)
            output, errors = waiting.communicate(timeout=timeout)
        finally:
            for each in informers:
                each.kill()
    assert (waiting.returncode, output) == (0, "configmap/flag condition met\n"), errors
