"""A proxy of a real cluster with the proxy's own identity, a Connector in it, and callers with kubectl."""

import base64
import http.client
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.process import Process
from lab.waiting import wait_until
from tests.cluster.kube.installation import AUDIENCE, connector, proxy_kubeconfig, secret
from tests.cluster.proxy.running_proxy import ROOT, WAIT_TIMEOUT, RunningProxy

NOT_CHECKED: Final = "the caller cannot be checked at the moment"
"""Words of the response if the API server does not answer a review within 10 s, as on a busy machine."""
RECHECK: Final = 4.0
"""Seconds, instead of 30: so long a test waits for a right that is taken away."""

OPTIONS: Final = {
    "connector_source": "kubernetes",
    # The targets of these tests are on loopback, which a proxy in a cluster does not dial.
    "connector_targets_allow": "127.0.0.0/8",
    "connector_recheck": str(RECHECK),
    "connector_watch_timeout": "20",
}


def cluster_proxy(
    home: Path,
    plane: ControlPlane,
    *,
    server: str | None = None,
    options: Mapping[str, str] = {},
    environment: Mapping[str, str] = {},
    tree: Path = ROOT,
) -> RunningProxy:
    """Not started; `server` may be a relay on the way to the API server, and `tree` the code of another release."""
    kubeconfig = proxy_kubeconfig(plane, server=server)
    inherited = {"KUBECONFIG": str(kubeconfig)}
    return RunningProxy(
        home,
        options=OPTIONS | dict(options),
        environment=inherited | dict(environment),
        # Our program accepts only the addons of its own tree.
        program="addons" if tree == ROOT else "mitmdump",
        tree=tree,
    )


@dataclass(frozen=True, kw_only=True)
class ServedConnector:
    """Connector `k8s` of a namespace, for the control plane itself, as its ServiceAccount `target`."""

    plane: ControlPlane
    proxy: RunningProxy
    namespace: str

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.namespace, "k8s")

    def apply(self, *, account: str = "target", lifetime: float = 3600) -> None:
        """The Secret with that ServiceAccount's token, and the Connector."""
        self.rotate(account=account, lifetime=lifetime)
        self.plane.api.apply(connector("k8s", address=self.plane.url), namespace=self.namespace)

    def rotate(self, *, account: str, lifetime: float = 3600) -> None:
        token = self.plane.issue_token(self.namespace, account, lifetime=lifetime)
        self.plane.api.apply(secret("k8s-secret", token=token, ca_crt=self.plane.ca_pem), namespace=self.namespace)

    def caller_token(self, account: str = "default", *, audience: str = AUDIENCE, lifetime: float = 3600) -> str:
        """A token of a ServiceAccount of the namespace."""
        return self.plane.issue_token(self.namespace, account, audiences=[audience], lifetime=lifetime)

    def kubectl(self, token: str | None = None, *, name: str = "k8s") -> Kubectl:
        manifest = connector(name, address=self.plane.url)
        manifest["metadata"]["namespace"] = self.namespace
        return self.proxy.kubectl(self.plane.kubectl, manifest, token=token or self.caller_token())

    def whoami(self, kubectl: Kubectl) -> str:
        """Return the ServiceAccount that the target sees as the user; stderr if the request failed."""
        done = kubectl.run("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        return done.stdout.rpartition(":")[2] if done.returncode == 0 else done.stderr

    def checked_whoami(self, kubectl: Kubectl) -> str:
        """Like `whoami`, once the proxy has checked the caller."""
        return wait_until(
            lambda: answer if NOT_CHECKED not in (answer := self.whoami(kubectl)) else None, "the caller to be checked"
        )

    def connect(self, token: str, *, key: ObjectKey | None = None) -> "ConnectResponse":
        return connect(self.proxy, key or self.key, token, self.plane.url.removeprefix("https://"))

    def checked_connect(self, token: str, *, key: ObjectKey | None = None) -> "ConnectResponse":
        """Like `connect`, once the proxy has checked the caller."""
        return checked_connect(self.proxy, key or self.key, token, self.plane.url.removeprefix("https://"))

    def wait_until_synced(self) -> None:
        """Returns when the proxy has seen what was applied."""
        kubectl = self.kubectl()
        wait_until(lambda: self.whoami(kubectl) == "target", "the first request to go through")


@dataclass(frozen=True, kw_only=True)
class ConnectResponse:
    """To a CONNECT."""

    status: int
    phrase: str
    retry_after: str | None


def connect(proxy: RunningProxy, key: ObjectKey, token: str, authority: str) -> ConnectResponse:
    login = base64.b64encode(f"{key}:{token}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=WAIT_TIMEOUT)
    try:
        connection.request("CONNECT", authority, headers={"Proxy-Authorization": f"Basic {login}", "Host": authority})
        response = connection.getresponse()
        return ConnectResponse(
            status=response.status, phrase=response.reason, retry_after=response.getheader("Retry-After")
        )
    finally:
        connection.close()


def checked_connect(proxy: RunningProxy, key: ObjectKey, token: str, authority: str) -> ConnectResponse:
    """Like `connect`, once the proxy has checked the caller."""

    def checked() -> ConnectResponse | None:
        response = connect(proxy, key, token, authority)
        return response if NOT_CHECKED not in response.phrase else None

    return wait_until(checked, "the caller to be checked")


class KubectlWatch:
    """A `kubectl get --watch` that runs, until it ends by itself or is stopped."""

    def __init__(self, kubectl: Kubectl, *arguments: str, namespace: str, log: Path) -> None:
        command = kubectl.command("get", *arguments, "--watch-only", "-o", "name", namespace=namespace)
        self._process = Process(command, log=log, environment=kubectl.environment)
        self._log = log

    def __enter__(self) -> "KubectlWatch":
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def has_seen(self, text: str) -> bool:
        return text in self._log.read_text(errors="replace")

    def wait_until_open(self, make_change: Callable[[], object], text: str) -> None:
        """Make changes until the watch has seen one whose name contains `text`.

        A watch that has ended is started again: a busy API server may not have checked its caller in time.
        """

        def sees_change() -> bool:
            if not self.is_running:
                self._process.start()
            make_change()
            return self.has_seen(text)

        wait_until(sees_change, "the watch to be open")

    def wait_for_end(self) -> None:
        wait_until(lambda: not self.is_running, "the watch to end")


def connectorctl(
    plane: ControlPlane, *arguments: str, kubeconfig: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`kubectl connector …`, found by kubectl itself. The default kubeconfig is that of cluster-admin."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubeconfig or plane.kubeconfig),
        "HOME": str(plane.folder),
    }
    command = [str(plane.programs / "kubectl"), "connector", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_TIMEOUT)
