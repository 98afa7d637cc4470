"""Measure what idle watches of pods through the proxy cost the API server, which reviews their callers again and again.

    python -m bench.idle_watches [--watches 5000] [--accounts 200 5000] [--seconds 72] [--json FILE]

Each watch has a pod of its own as its caller, with the token of the pod. The pods share ServiceAccounts. The target is
the same API server, so its CPU for the same watches without the proxy is measured first, and subtracted. CPU is that of
a time in which nothing but the watches' bookmarks and the reviews happens.
"""

import asyncio
import json
import os
import re
import ssl
import statistics
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple

from bench.output import make_parser, write_json
from bench.peers.connector_proxy import start_proxy
from bench.peers.endpoint import Endpoint
from bench.process import read_usage
from bench.store_scale import WRITERS
from bench.testbed import Testbed, open_testbed
from bench.wide import (
    AUDIENCE,
    CLUSTER_DOMAIN,
    CONCURRENT_CALLS,
    NAMESPACES,
    SYSTEM_NAMESPACE,
    ClusterSource,
    Json,
    role_binding,
    scrape,
    send_request,
)
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import PODS, SERVICE_ACCOUNTS
from lab.control_plane import ControlPlane
from lab.manifests import connector, secret

CONNECTOR: Final = "hub"
"""Name of the Connector in each namespace."""
TARGET_ACCOUNT: Final = "target"
LIFETIME: Final = 7200
SETTLE_SECONDS: Final = 36.0
"""Seconds after the last watch is open. The first rechecks of all callers are over then."""
ATTEMPTS: Final = 20
"""Attempts to open a watch. On a busy machine, the proxy answers some with 503, as to any client."""
NO_AUDIT: Final = "--audit-policy-file="
"""Argument of kube-apiserver. Without a policy, which is its default, it writes no audit log."""
LOOP_LENGTH: Final = 300_000
LOOP_INTERVAL: Final = 2.0
"""Seconds between two loops that show how fast the machine is."""
REVIEWS: Final = ("tokenreviews", "subjectaccessreviews")


def namespace_of(account: int) -> str:
    return f"team-{account % NAMESPACES}"


class Caller(NamedTuple):
    """A caller that watches the ConfigMaps of its namespace."""

    namespace: str
    token: str

    @property
    def request(self) -> str:
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={LIFETIME}"
        return f"GET /api/v1/namespaces/{self.namespace}/configmaps?{query}"


class Installation:
    """A control plane with a Connector in each of 200 namespaces, whose accounts may all use it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.source = ClusterSource(plane, 0)
        for number in range(NAMESPACES):
            namespace = plane.create_namespace(namespace_of(number))
            group = {"kind": "Group", "name": f"system:serviceaccounts:{namespace}"}
            plane.api.apply(role_binding(group), namespace=namespace)
        plane.create_service_account(SYSTEM_NAMESPACE, TARGET_ACCOUNT)
        account = f"--serviceaccount={SYSTEM_NAMESPACE}:{TARGET_ACCOUNT}"
        plane.kubectl("create", "clusterrolebinding", TARGET_ACCOUNT, "--clusterrole=cluster-admin", account)
        self.target_token = plane.issue_token(SYSTEM_NAMESPACE, TARGET_ACCOUNT, lifetime=LIFETIME)
        asyncio.run(self.source.publish(self._make_objects()))

    def _make_objects(self) -> Iterator[tuple[Json, Json]]:
        for number in range(NAMESPACES):
            namespace = namespace_of(number)
            yield (
                connector(CONNECTOR, self.plane.url, namespace=namespace),
                secret(CONNECTOR, namespace=namespace, token=self.target_token, ca=self.plane.ca_pem),
            )

    async def create_callers(self, count: int, accounts: int) -> list[Caller]:
        """Create pods of so many accounts, which are callers."""
        configuration = await config_loader.load_configuration(kubeconfig=str(self.plane.kubeconfig))
        async with KubeClient(configuration) as client:

            async def create_account(number: int) -> Json:
                account = {"metadata": {"name": f"account-{number}-of-{accounts}"}}
                return await client.create(SERVICE_ACCOUNTS.path(namespace_of(number)), account)

            async def create_pod(number: int) -> Json:
                account = owners[number % accounts]["metadata"]["name"]
                spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "i"}]}
                pod = {"metadata": {"name": f"{account}-{number}"}, "spec": spec}
                return await client.create(PODS.path(namespace_of(number % accounts)), pod)

            owners = await run_all(create_account(number) for number in range(accounts))
            pods = await run_all(create_pod(number) for number in range(count))
        issue = partial(self.plane.token_issuer.issue_for_pod, audiences=[AUDIENCE], lifetime=LIFETIME)
        return [
            Caller(pod["metadata"]["namespace"], issue(pod, owners[number % accounts]))
            for number, pod in enumerate(pods)
        ]

    def count_reviews(self) -> dict[str, int]:
        """Return the number of reviews that the API server has answered."""
        text = self.plane.api.request("GET", "/metrics", timeout=60).body.decode()
        counts = {}
        for resource in REVIEWS:
            pattern = rf'^apiserver_request_total{{[^}}]*resource="{resource}"[^}}]*}} (\S+)$'
            counts[resource] = sum(int(float(value)) for value in re.findall(pattern, text, re.MULTILINE))
        return counts


async def run_all[T](work: Iterator[Coroutine[Any, Any, T]], concurrency: int = WRITERS) -> list[T]:
    """Run the coroutines, `concurrency` at a time, and return their results in order."""
    results: dict[int, T] = {}
    numbered = enumerate(work)

    async def run() -> None:
        for number, coroutine in numbered:
            results[number] = await coroutine

    async with asyncio.TaskGroup() as tasks:
        for _ in range(concurrency):
            tasks.create_task(run())
    return [results[number] for number in range(len(results))]


@asynccontextmanager
async def open_watches(
    authority: str, context: ssl.SSLContext, callers: list[Caller], *, with_alias: bool
) -> AsyncIterator[None]:
    """Open a watch of each caller, by the Connector's alias or directly, and close all of them at the end."""
    host, _, port = authority.rpartition(":")
    writers: list[asyncio.StreamWriter] = []

    async def try_to_open(caller: Caller) -> str:
        name = f"c-{CONNECTOR}.{caller.namespace}.svc.{CLUSTER_DOMAIN}" if with_alias else host
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name)
        writers.append(writer)
        fields = f"Host: {name}", f"Authorization: Bearer {caller.token}"
        return await send_request(reader, writer, caller.request, *fields)

    async def open_watch(caller: Caller) -> None:
        for _ in range(ATTEMPTS):
            status = await try_to_open(caller)
            if status == "200":
                return
            await asyncio.sleep(1)
        raise RuntimeError(f"a watch was answered with {status} {ATTEMPTS} times")

    try:
        await run_all(map(open_watch, callers), CONCURRENT_CALLS)
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


def time_loop() -> float:
    """Return the CPU seconds of a loop. Figures of CPU compare if the machine was as fast."""
    started_at = time.process_time()
    for number in range(LOOP_LENGTH):
        hash(number * number)
    return time.process_time() - started_at


def measure_rest(installation: Installation, seconds: float, endpoint: Endpoint | None = None) -> dict[str, Any]:
    """Return the CPU of the programs while clients send no request."""
    pids = {"API server": installation.plane.apiserver.pid}
    if endpoint is not None:
        pids["proxy"] = endpoint.process.popen.pid
    time.sleep(SETTLE_SECONDS)
    reviews, started_at = installation.count_reviews(), time.monotonic()
    before = {name: read_usage(pid).cpu for name, pid in pids.items()}
    loops = []
    while time.monotonic() < started_at + seconds:
        loops.append(time_loop())
        time.sleep(LOOP_INTERVAL)
    duration = time.monotonic() - started_at
    figures: dict[str, Any] = {
        f"cores of the {name}": round((read_usage(pid).cpu - before[name]) / duration, 3) for name, pid in pids.items()
    }
    for resource, count in installation.count_reviews().items():
        figures[f"{resource} a second"] = round((count - reviews[resource]) / duration, 1)
    return figures | {"loop, ms": round(statistics.mean(loops) * 1e3, 1), "load": os.getloadavg()[0]}


async def measure_direct(installation: Installation, watches: int, seconds: float) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(installation.plane.ca.certificate))
    authority = urllib.parse.urlsplit(installation.plane.url).netloc
    callers = [Caller(namespace_of(number), installation.target_token) for number in range(watches)]
    async with open_watches(authority, context, callers, with_alias=False):
        return await asyncio.to_thread(measure_rest, installation, seconds)


async def measure_proxy(
    installation: Installation, endpoint: Endpoint, callers: list[Caller], seconds: float
) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(endpoint.ca))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    async with open_watches(endpoint.proxy, context, callers, with_alias=True):
        figures = await asyncio.to_thread(measure_rest, installation, seconds, endpoint)
        text = await asyncio.to_thread(scrape, endpoint)
        [age] = re.findall(r"^connector_oldest_access_check_age_seconds (\S+)$", text, re.MULTILINE)
        return figures | {"oldest check, s": round(float(age), 1)}


def measure(testbed: Testbed, watches: int, accounts: list[int], seconds: float) -> Iterator[dict[str, Any]]:
    with ControlPlane(testbed.make_folder("control-plane"), arguments=[NO_AUDIT]) as plane:
        installation = Installation(plane)
        yield {"case": "nothing"} | measure_rest(installation, seconds)
        yield {"case": "direct", "watches": watches} | asyncio.run(measure_direct(installation, watches, seconds))
        for count in accounts:
            callers = asyncio.run(installation.create_callers(watches, count))
            source = installation.source
            endpoint = start_proxy(testbed, name="idle", options=source.options(), env=source.environment())
            try:
                figures = asyncio.run(measure_proxy(installation, endpoint, callers, seconds))
            finally:
                endpoint.process.stop()
            yield {"case": "proxy", "watches": watches, "accounts": count} | figures


def main(arguments: list[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--watches", type=int, default=5000)
    parser.add_argument("--accounts", type=int, nargs="+", default=[200, 5000])
    parser.add_argument("--seconds", type=float, default=72.0, help="length of each measurement; default: 72")
    options = parser.parse_args(arguments)
    figures = []
    with open_testbed() as testbed:
        for case in measure(testbed, options.watches, options.accounts, options.seconds):
            figures.append(case)
            sys.stdout.write(json.dumps(case) + "\n")
            sys.stdout.flush()
    write_json(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
