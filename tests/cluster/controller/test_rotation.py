"""Rotation of the CA under load: clients that trust the old CA, the new one or both keep working; watches stay open."""

import base64
import contextlib
import http.client
import operator
import random
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from connector_controller.ca_rotation import ROTATE_ANNOTATION, SWITCHED_ANNOTATION
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry, KubeconfigStyle, build_kubeconfig, to_yaml
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from connector_store.domain.status.rotation_plan import NEXT_CA_KEY, SIGNING_CA_KEY
from lab.controller import SYSTEM_NAMESPACE, ConnectorCluster, Controller
from lab.kubectl import Kubectl
from lab.waiting import TIMEOUT, wait_until
from tests.cluster.kube.installation import account_subject, grant_use, install_roles
from tests.cluster.kube.served_connector import KubectlWatch, ServedConnector, cluster_proxy
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT

CA_SECRET = "connectors-proxy-ca"
PATH = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/{CA_SECRET}"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/connectors-controller"
KILLS = 10
LONGEST_LIFE = 5.0
"""Maximum seconds between two kills. A controller starts within two."""


@pytest.fixture
def served(
    world: ConnectorCluster, controller: Controller, tmp_path: Path, namespace: str
) -> Iterator[ServedConnector]:
    """A proxy that waits for the controller's CA, and a Connector for the control plane itself."""
    install_roles(world.plane)
    world.plane.create_service_account(namespace, "target")
    binding = ("create", "rolebinding", "target", "--clusterrole=cluster-admin")
    world.plane.kubectl(*binding, f"--serviceaccount={namespace}:target", namespace=namespace)
    grant_use(world.plane, namespace, subject=account_subject(namespace))
    with cluster_proxy(tmp_path / "proxy", world.plane, options={"connector_ca_secret": CA_SECRET}) as proxy:
        connector = ServedConnector(plane=world.plane, proxy=proxy, namespace=namespace)
        connector.apply()
        world.wait_for_condition(namespace, "Ready", "True")
        yield connector


class Callers:
    """kubectl with a kubeconfig as it was published at some time."""

    def __init__(self, world: ConnectorCluster, served: ServedConnector, folder: Path) -> None:
        self._world, self._served, self._folder = world, served, folder
        self.token = served.caller_token()

    def published(self) -> bytes:
        return base64.b64decode(self._world.wait_for_proxy_address(self._served.namespace)["CACerts"])

    def kubectl(self, name: str, ca: bytes) -> Kubectl:
        parsed = parse_connector(self._world.get_connector(self._served.namespace))
        assert isinstance(parsed, Connector)
        proxy = f"http://127.0.0.1:{self._served.proxy.port}"
        entry = KubeconfigEntry(key=parsed.key, address=parsed.address, proxy=proxy, ca=ca, token=self.token)
        path = self._folder / f"{name}.kubeconfig"
        path.write_text(to_yaml(build_kubeconfig([entry], KubeconfigStyle())))
        return Kubectl(self._world.plane.kubectl.program, path)


class LongLived:
    """A client that read its kubeconfig once: a new tunnel and a new TLS session for every request, all the while."""

    def __init__(self, served: ServedConnector, callers: Callers, ca: bytes) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._ending = threading.Event()
        self._context = ssl.create_default_context(cadata=ca.decode())
        login = base64.b64encode(f"{served.key}:{callers.token}".encode()).decode()
        self._headers = {"Proxy-Authorization": f"Basic {login}"}
        self._proxy = ("127.0.0.1", served.proxy.port)
        self._target = served.plane.url.removeprefix("https://").partition(":")
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "LongLived":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(WAIT_TIMEOUT)

    def _run(self) -> None:
        while not self._ending.wait(0.1):
            try:
                self._ask()
                self.done += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def _ask(self) -> None:
        connection = http.client.HTTPSConnection(*self._proxy, context=self._context, timeout=WAIT_TIMEOUT)
        with contextlib.closing(connection):
            connection.set_tunnel(self._target[0], int(self._target[2]), self._headers)
            connection.request("GET", "/version", headers={"Authorization": "Bearer fake-token"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise http.client.HTTPException(f"status {answer.status}")


def ca_secret(world: ConnectorCluster) -> Any:
    return world.api.call("GET", PATH)


def works(kubectl: Kubectl) -> bool:
    return kubectl.run("auth", "whoami").returncode == 0


def test_a_rotation_under_load(world: ConnectorCluster, served: ServedConnector, tmp_path: Path) -> None:
    callers = Callers(world, served, tmp_path)
    old_pem = callers.published()
    old = callers.kubectl("old", old_pem)
    wait_until(lambda: works(old), "the proxy to have read the Connector")
    signing = ca_secret(world)["data"][SIGNING_CA_KEY]
    with (
        LongLived(served, callers, old_pem) as client,
        KubectlWatch(old, "configmaps", namespace=served.namespace, log=tmp_path / "watch.log") as watching,
    ):
        world.plane.kubectl("annotate", "secret", CA_SECRET, f"{ROTATE_ANNOTATION}=now", namespace=SYSTEM_NAMESPACE)
        wait_until(lambda: NEXT_CA_KEY in ca_secret(world)["data"], "the next CA")
        both_pem = wait_until(
            lambda: pem if (pem := callers.published()) != old_pem else None, "both CAs in the status"
        )
        assert both_pem.count(b"BEGIN CERTIFICATE") == 2
        both = callers.kubectl("both", both_pem)
        assert works(old)
        assert works(both)

        wait_until(lambda: ca_secret(world)["data"][SIGNING_CA_KEY] != signing, "the next CA's turn")
        new_pem = wait_until(
            lambda: pem if (pem := callers.published()).count(b"BEGIN CERTIFICATE") == 1 else None,
            "the end of the rotation",
        )
        assert SWITCHED_ANNOTATION not in (ca_secret(world)["metadata"].get("annotations") or {})
        assert new_pem != old_pem
        new = callers.kubectl("new", new_pem)
        wait_until(lambda: works(new), "the proxy to sign with the new CA")
        assert works(old)
        assert works(both)
        done = client.done
        wait_until(lambda: client.done > done + 10, "more requests of the long-lived client")

        world.plane.kubectl("create", "configmap", "after", namespace=served.namespace)
        wait_until(lambda: watching.has_seen("after"), "the change in the watch that began before")
        assert client.failures == []
    config_map = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/connectors-proxy-ca"
    # The controller writes it at the same time as the status.
    wait_until(
        lambda: world.api.call("GET", config_map)["data"]["ca.crt"].encode() == new_pem, "the new CA in the ConfigMap"
    )


def test_a_rotation_while_controllers_are_killed(
    world: ConnectorCluster, served: ServedConnector, controller: Controller, tmp_path: Path
) -> None:
    """Each bundle that was published works from then on, and shares a CA with the one after it."""
    callers = Callers(world, served, tmp_path)
    bundles = [callers.published()]
    first = callers.kubectl("first", bundles[0])
    wait_until(lambda: works(first), "the proxy to have read the Connector")
    rng = random.Random(28)  # noqa: S311 - moments to kill at
    with contextlib.ExitStack() as stack:
        other = Controller(world.plane).start()
        stack.callback(other.close)
        clients = [stack.enter_context(LongLived(served, callers, bundles[0]))]

        def is_finished() -> bool:
            """Start a client with each new bundle. Return True for the bundle of the new CA alone."""
            if (pem := callers.published()) != bundles[-1]:
                assert certificates(pem) & certificates(bundles[-1])
                bundles.append(pem)
                clients.append(stack.enter_context(LongLived(served, callers, pem)))
            return not certificates(pem) & certificates(bundles[0])

        def wait_for_kill(killed_at: float) -> None:
            wait_until(lambda: is_finished() or time.monotonic() > killed_at, "the next kill")

        world.plane.kubectl("annotate", "secret", CA_SECRET, f"{ROTATE_ANNOTATION}=now", namespace=SYSTEM_NAMESPACE)
        for _ in range(KILLS):
            wait_for_kill(time.monotonic() + rng.uniform(0, LONGEST_LIFE))
            victim = rng.choice((controller, other))
            victim.process.kill()
            world.delete(LEASE)
            victim.process.start()
        wait_until(is_finished, "the end of the rotation", timeout=2 * TIMEOUT)
        counts = [client.done for client in clients]
        wait_until(
            lambda: all(map(operator.gt, (client.done for client in clients), counts)), "requests of all clients"
        )
        assert [failure for client in clients for failure in client.failures] == []
    assert max(len(certificates(pem)) for pem in bundles) == 2


def certificates(pem: bytes) -> set[x509.Certificate]:
    return set(x509.load_pem_x509_certificates(pem))


def test_proxies_keep_working_without_the_controller(
    world: ConnectorCluster, served: ServedConnector, controller: Controller, tmp_path: Path
) -> None:
    callers = Callers(world, served, tmp_path)
    kubectl = callers.kubectl("any", callers.published())
    wait_until(lambda: works(kubectl), "the proxy to have read the Connector")
    controller.process.kill()
    try:
        assert works(kubectl)
        served.rotate(account="target")
        assert works(kubectl)
    finally:
        controller.process.start()


def test_the_ca_key_is_in_no_log_and_no_metric(world: ConnectorCluster, controller: Controller) -> None:
    wait_until(lambda: CA_SECRET in world.plane.kubectl("get", "secrets", namespace=SYSTEM_NAMESPACE), "the CA")
    pem = world.get_secret_data(CA_SECRET)[SIGNING_CA_KEY].decode()
    lines = [line for line in pem.partition("-----END PRIVATE")[0].splitlines() if "-----" not in line]
    wait_until(lambda: controller.read_metric("connector_ca_expiry_timestamp_seconds") > 0, "the metric of its end")
    shown = controller.log + controller.get("/metrics")
    assert lines
    assert not any(line in shown for line in lines)
