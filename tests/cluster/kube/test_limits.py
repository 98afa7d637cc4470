"""`spec.limits` with a real proxy and a real API server: deletions with kubectl, sessions, and a caller in a loop."""

import http.client
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from lab.waiting import wait_until
from tests.cluster.kube.installation import account_subject, connector, grant_use
from tests.cluster.kube.served_connector import ServedConnector
from tests.fakes.latency import Latency, is_as_fast

LOOP = """
import http.client, ssl, sys
port, path, token, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
statuses = set()
connection = http.client.HTTPSConnection("127.0.0.1", int(port), context=context)
while True:
    connection.request("GET", path, headers={"Authorization": "Bearer " + token})
    response = connection.getresponse()
    response.read()
    if response.status not in statuses:
        statuses.add(response.status)
        print(response.status, flush=True)
"""
"""Program of a caller that sends one request after another, whatever the proxy answers."""
MAX_ROUNDS = 40
MIN_REFUSALS = 40
"""Refusals of the loop during the measurement. It gets hundreds in one round on a machine without other work."""
SAMPLES = 40
INTERVAL = 0.13
"""Seconds between two requests of the measured caller, who stays within the limits."""


def set_limits(served: ServedConnector, **limits: int) -> None:
    """Apply the Connector with `limits`, and return when the proxy has seen them."""
    manifest = connector("k8s", address=served.plane.url, limits=limits)
    served.plane.api.apply(manifest, namespace=served.namespace)
    wait_until(lambda: "spec.limits" in deletion(served, "bulk"), "the proxy to have the limits")


def deletion(served: ServedConnector, kind: str) -> str:
    """Send a deletecollection that selects nothing. Return kubectl's error."""
    path = f"/api/v1/namespaces/{served.namespace}/configmaps?labelSelector=none%3D{kind}"
    return served.kubectl().run("delete", "--raw", path).stderr


def config_map(served: ServedConnector, name: str) -> None:
    served.plane.kubectl("create", "configmap", name, namespace=served.namespace)


def remaining(served: ServedConnector) -> set[str]:
    names = served.plane.kubectl("get", "configmaps", "-o", "name", namespace=served.namespace).split()
    return {name.partition("/")[2] for name in names} - {"kube-root-ca.crt"}


def test_kubectl_deletes_as_many_objects_as_the_limit_allows(served: ServedConnector) -> None:
    for number in range(5):
        config_map(served, f"c{number}")
    set_limits(served, deletesPerHour=2, sessions=0)
    kubectl = served.kubectl()
    assert served.checked_whoami(kubectl) == "target"
    # kubectl does not wait for half an hour: the time limit of this call is a minute.
    done = kubectl.run("delete", "configmaps", *(f"c{number}" for number in range(4)), namespace=served.namespace)
    assert done.returncode != 0
    field = (
        f"spec.limits.deletesPerHour of Connector {served.key} allows 2 requests of this kind per hour for one caller"
    )
    assert field in done.stderr
    assert len(remaining(served)) == 3
    assert kubectl.run("delete", "configmaps", "--all", namespace=served.namespace).returncode != 0
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": served.namespace}}
    path = f"/api/v1/namespaces/{served.namespace}/pods/p/eviction"
    assert "deletesPerHour" in kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction)).stderr
    bulk = f"spec.limits.bulkDeletesPerHour of Connector {served.key} is 0"
    assert bulk in kubectl.run("delete", "namespace", served.namespace).stderr
    assert bulk in deletion(served, "all")
    session = f"/api/v1/namespaces/{served.namespace}/pods/p/exec?command=true"
    assert "spec.limits.sessions" in kubectl.run("get", "--raw", session).stderr
    assert len(remaining(served)) == 3
    assert kubectl("create", "configmap", "new", namespace=served.namespace), "writes have no limit"
    expected = {(429, "deletesPerHour"), (403, "bulkDeletesPerHour"), (403, "sessions")}

    def records() -> set[tuple[int, str]]:
        return {(each["status"], each["detail"]) for each in served.proxy.audit() if each["reason"] == "limit"}

    wait_until(lambda: records() >= expected, "the audit records")


def test_kubectl_waits_for_a_limit_of_requests(served: ServedConnector) -> None:
    set_limits(served, requestsPerSecond=2, deletesPerHour=1)
    kubectl = served.kubectl()

    def is_limited() -> bool:
        """Run kubectl four times at the same time. On a busy machine they may start too slowly to meet the limit."""
        with ThreadPoolExecutor(4) as pool:
            for result in [pool.submit(kubectl, "get", "configmaps", namespace=served.namespace) for _ in range(4)]:
                result.result()
        return any(each["detail"] == "requestsPerSecond" for each in served.proxy.audit())

    wait_until(is_limited, "kubectl to meet the limit and to wait")


class Caller:
    """A caller with direct access, which measures its requests."""

    def __init__(self, served: ServedConnector, account: str) -> None:
        self.token = served.caller_token(account)
        wait_until(lambda: served.connect(self.token).status == 200, "the caller to be checked")
        self.path = f"/connectors/{served.key}/api/v1/namespaces/{served.namespace}/configmaps"
        self.port = served.proxy.port
        context = ssl.create_default_context(cadata=served.proxy.ca_pem().decode())
        self._connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=60)

    def measure(self) -> float:
        """Return the seconds of one request."""
        time.sleep(INTERVAL)
        started_at = time.perf_counter()
        self._connection.request("GET", f"{self.path}/seed", headers={"Authorization": f"Bearer {self.token}"})
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200
        return time.perf_counter() - started_at

    def close(self) -> None:
        self._connection.close()


@contextmanager
def loop_of(served: ServedConnector, caller: Caller) -> Iterator[subprocess.Popen[str]]:
    """Send requests of `caller` in a loop of another process, which has got its first 429 when this yields."""
    command = [sys.executable, "-c", LOOP, str(caller.port), f"{caller.path}/seed", caller.token]
    command.append(str(served.proxy.confdir / "mitmproxy-ca-cert.pem"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline().strip() for _ in range(2)] == ["200", "429"]
            yield process
        finally:
            process.kill()


def count_limited(served: ServedConnector, user_suffix: str) -> int:
    """Return the number of refusals by a limit in the audit log for users whose names end so."""
    records = (each for each in served.proxy.audit() if each["caller"]["user"].endswith(user_suffix))
    return sum(each["reason"] == "limit" for each in records)


@pytest.mark.timeout(1200)
def test_a_caller_in_a_loop_leaves_the_latency_of_another(served: ServedConnector) -> None:
    """The loop is stopped and continued for each request, so other programs of the machine disturb both equally."""
    config_map(served, "seed")
    served.plane.create_service_account(served.namespace, "greedy")
    grant_use(served.plane, served.namespace, subject=account_subject(served.namespace, "greedy"), name="greedy")
    set_limits(served, requestsPerSecond=8, burst=30, deletesPerHour=1)
    outcomes: list[tuple[Latency, Latency]] = []
    with closing(Caller(served, "default")) as caller, loop_of(served, Caller(served, "greedy")) as loop:
        caller.measure()
        # On a busy machine, the loop may get too little time in a round to keep the proxy busy.
        while not outcomes or not is_as_fast(*outcomes[-1]) or count_limited(served, ":greedy") < MIN_REFUSALS:
            assert len(outcomes) < MAX_ROUNDS, f"latencies alone and beside the loop: {outcomes}"
            alone, beside = [], []
            for _ in range(SAMPLES):
                loop.send_signal(signal.SIGSTOP)
                alone.append(caller.measure())
                loop.send_signal(signal.SIGCONT)
                beside.append(caller.measure())
            outcomes.append((Latency.of(alone), Latency.of(beside)))
