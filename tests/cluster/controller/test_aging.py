"""A proxy and a controller in a cluster whose wall clock moves while they run: nothing ends by age.

Only the wall clock of these two programs and of their clients moves. The API server, which is the target too, keeps
its clock. Its certificates and all tokens last two years. `tests/addons/test_aging.py` has the same on a folder.
"""

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from connector_controller.ca_certificates import utc
from connector_store.kube.server_clock import MAX_OFFSET
from lab.controller import SYSTEM_NAMESPACE, ConnectorCluster, Controller
from lab.waiting import wait_until
from lab.wall_clock import DAY, WallClock
from tests.addons.aged_client import ALL_SERVED, call_each_route
from tests.cluster.kube.installation import account_subject, grant_use, install_roles
from tests.cluster.kube.served_connector import ServedConnector, cluster_proxy
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT

CA_SECRET: Final = "connectors-proxy-ca"
CONFIG_MAP: Final = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/connectors-proxy-ca"
LEASE: Final = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/connectors-controller"
TWO_YEARS: Final = 800.0 * DAY
JUMPS: Final = {"ten minutes": 600, "an hour back": -3600, "a day": DAY, "200 days": 200 * DAY, "400 days": 400 * DAY}
CLOCK_OFFSET: Final = "connector_clock_offset_seconds"
CA_RENEWAL: Final = 750 * DAY
"""The controller replaces its CA of three years after two."""


@pytest.fixture
def controller(world: ConnectorCluster, clock: WallClock) -> Iterator[Controller]:
    running = Controller(world.plane, clock.environment).start()
    yield running
    running.close()


@pytest.fixture
def served(
    world: ConnectorCluster, controller: Controller, clock: WallClock, tmp_path: Path, namespace: str
) -> Iterator[ServedConnector]:
    install_roles(world.plane)
    world.plane.create_service_account(namespace, "target")
    grant_use(world.plane, namespace, subject=account_subject(namespace))
    options = {"connector_ca_secret": CA_SECRET}
    with cluster_proxy(tmp_path / "proxy", world.plane, options=options, environment=clock.environment) as proxy:
        served = ServedConnector(plane=world.plane, proxy=proxy, namespace=namespace)
        served.apply(lifetime=TWO_YEARS)
        yield served


class Scene:
    """The running programs, and what a client of them sees."""

    def __init__(
        self, world: ConnectorCluster, controller: Controller, served: ServedConnector, clock: WallClock, folder: Path
    ) -> None:
        self._world, self._controller, self._served, self._clock = world, controller, served, clock
        self._folder = folder
        self._token = self._issue_token()

    def _issue_token(self) -> str:
        return self._served.caller_token(lifetime=TWO_YEARS)

    def published(self) -> str:
        """Return the CA certificates that the ConfigMap publishes."""
        response = self._world.api.request("GET", CONFIG_MAP)
        return str(response.json()["data"]["ca.crt"]) if response.status == 200 else ""

    def call(self, ca_pem: str) -> dict[str, object]:
        """Use the Connector by each route, as a client that trusts only `ca_pem` and has the moved clock."""
        ca_file = self._folder / "ca.crt"
        ca_file.write_text(ca_pem)
        return call_each_route(
            ca_file,
            port=self._served.proxy.port,
            target=self._world.plane.url.removeprefix("https://"),
            key=self._served.key,
            token=self._token,
            environment=self._clock.environment,
        )

    def served_certificate(self) -> x509.Certificate:
        """Return the certificate that the proxy serves at its port."""
        return x509.load_pem_x509_certificate(
            ssl.get_server_certificate(("127.0.0.1", self._served.proxy.port), timeout=WAIT_TIMEOUT).encode()
        )

    def move_clock(self, seconds: int) -> None:
        """Move the clock such that the leader keeps its Lease, after at most a few tries.

        On a busy machine, the leader may lose its Lease without a move.
        """
        before = self._clock.seconds

        def keeps_lease() -> bool:
            lease = self.lease()
            self._clock.move(seconds)
            # The first write may have begun before the move.
            self.wait_for_renewal()
            self.wait_for_renewal()
            if self.lease() == lease:
                return True
            self._clock.move(before)
            self.wait_for_renewal()
            return False

        wait_until(keeps_lease, f"a Lease that outlives a move of the clock to {seconds} s")

    def check(self) -> None:
        """Assert that both programs work with their present clock."""
        now = utc(self._clock.now())
        assert self.call(self.published()) == ALL_SERVED
        # The next token is unknown, so the proxy sends a review. A busy API server may not answer it in time.
        self._token = self._issue_token()
        self._served.checked_connect(self._token)
        assert self.call(self.status_pem()) == ALL_SERVED
        certificate = self.served_certificate()
        assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc
        assert all(
            each.not_valid_after_utc > now for each in x509.load_pem_x509_certificates(self.published().encode())
        )
        assert self._served.proxy.admin("/readyz")[0] == 200
        wait_until(lambda: self._controller.is_serving("/readyz"), "the controller to be ready")

    def check_offset(self) -> None:
        """Assert that both programs report how far their clock is from the API server's."""
        metrics = self._served.proxy.admin("/metrics")[1], self._controller.get("/metrics")
        for text, log in zip(metrics, (self._served.proxy.log.read_text(), self._controller.log), strict=True):
            (offset,) = (line.split()[1] for line in text.splitlines() if line.startswith(f"{CLOCK_OFFSET} "))
            assert abs(float(offset) - self._clock.seconds) < MAX_OFFSET
            assert "the clock of this node is " in log

    def status_pem(self) -> str:
        """Return the CA certificates in the Connector's status, which kubeconfigs contain."""
        return base64.b64decode(self._world.wait_for_proxy_address(self._served.namespace)["CACerts"]).decode()

    def lease(self) -> tuple[str, int]:
        spec = self._world.api.call("GET", LEASE)["spec"]
        return spec["holderIdentity"], spec["leaseTransitions"]

    def wait_for_renewal(self) -> None:
        """Wait until the leader has renewed its Lease once more."""
        version = self._world.api.call("GET", LEASE)["metadata"]["resourceVersion"]
        wait_until(
            lambda: self._world.api.call("GET", LEASE)["metadata"]["resourceVersion"] != version, "a renewed Lease"
        )


def test_nothing_ends_by_age(
    world: ConnectorCluster, controller: Controller, served: ServedConnector, clock: WallClock, tmp_path: Path
) -> None:
    world.wait_for_condition(served.namespace, "Ready", "True")
    scene = Scene(world, controller, served, clock, tmp_path)
    wait_until(lambda: scene.call(scene.published()) == ALL_SERVED, "the proxy to have read the Connector")
    scene.check()
    first_pem = scene.published()
    for seconds in JUMPS.values():
        scene.move_clock(seconds)
        scene.check()
        world.wait_for_condition(served.namespace, "Ready", "True")
        assert scene.published() == first_pem
        scene.check_offset()
        # A change makes the controller write with its present clock.
        world.put_secret(served.namespace, "k8s-secret", token="")
        world.wait_for_condition(served.namespace, "Ready", "False", "SecretInvalid")
        served.rotate(account="target", lifetime=TWO_YEARS)
        world.wait_for_condition(served.namespace, "Ready", "True")
        wait_until(lambda: scene.call(first_pem) == ALL_SERVED, "the proxy to have read the Secret")

    clock.move(CA_RENEWAL)
    # The timers of the controller do not follow the wall clock. It looks at its CA with each change, and once a day.
    world.api.call("PATCH", CONFIG_MAP, {"metadata": {"annotations": {"touched": "now"}}})
    bundles = []

    def renewed() -> bool:
        """Every bundle that is published meanwhile serves clients of the one before and of now."""
        if (pem := scene.published()) not in bundles:
            bundles.append(pem)
        assert scene.call(first_pem) == ALL_SERVED
        return first_pem.strip() not in pem

    wait_until(renewed, "the end of the CA's rotation")
    assert any(first_pem.strip() in pem and pem.count("BEGIN") == 2 for pem in bundles)
    wait_until(lambda: scene.call(scene.published()) == ALL_SERVED, "the proxy to sign with the new CA")
    scene.check()
    # A move to CA_RENEWAL could not be repeated, because the next leader begins its term with a look at the CA.
    scene.move_clock(CA_RENEWAL + DAY)
    scene.check()
    assert "Traceback" not in controller.log + served.proxy.log.read_text()
