"""Measure one proxy with many Connectors that have nothing in common: hosts, CAs, tokens, callers, in 200 namespaces.

    python -m bench.wide [--connectors 5000] [--calls N] [--folder] [--json FILE]

Each caller, or the first N, uses its own Connector once in a pass: by CONNECT, by CONNECT again, and by the alias.
Clients verify the proxy's certificate. The proxy reads a real API server, or a folder. Clients and targets run in this
process, so the latency includes theirs.
"""

import asyncio
import base64
import os
import ssl
import statistics
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from bench.checkout import ROOT
from bench.output import make_parser, write_figures
from bench.peers.connector_proxy import SYNC_TIMEOUT, start_proxy
from bench.peers.endpoint import Endpoint
from bench.process import read_usage
from bench.store_scale import WRITERS
from bench.testbed import Testbed, open_testbed
from connector_store.domain.base.names import ObjectKey
from connector_store.folder.signing_key import SigningKey
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONNECTORS, SECRETS
from lab.certificates import make_ca, make_leaf
from lab.control_plane import ControlPlane
from lab.manifests import connector, secret, write_manifests

NAMESPACES: Final = 200
CONCURRENT_CALLS: Final = 50
TIMEOUT: Final = 60.0
CLUSTER_DOMAIN: Final = "cluster.local"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FORBIDDEN: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

AUDIENCE: Final = "connectors-proxy"
SYSTEM_NAMESPACE: Final = "connectors-system"

Call = Callable[[int], Coroutine[Any, Any, str]]
Json = dict[str, Any]


def key_of(number: int) -> ObjectKey:
    return ObjectKey(f"team-{number % NAMESPACES}", f"cluster-{number}")


def host_of(number: int) -> str:
    return f"127.1.{number // 250}.{number % 250 + 1}"


def token_of(number: int) -> str:
    """Return the credential that the target of a Connector accepts."""
    return f"token-{number}-of-the-target"


@asynccontextmanager
async def serve_targets(folder: Path, tokens: Mapping[str, bytes]) -> AsyncIterator[int]:
    """Serve all targets at one port. The address decides on the certificate, `folder`/HOST.pem, and on the token."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        host = writer.get_extra_info("sockname")[0]
        context.load_cert_chain(folder / f"{host}.pem")
        try:
            await writer.start_tls(context)
            while head := await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK if tokens[host] in head else FORBIDDEN)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()

    server = await asyncio.start_server(serve, "0.0.0.0", 0, backlog=1000)  # noqa: S104 - each loopback address is a target
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def make_objects(folder: Path, port: int, count: int) -> Iterator[tuple[Json, Json]]:
    """Yield `count` Connectors with their Secrets, and write the keys of the targets to `folder`."""
    for number in range(count):
        (namespace, name), host = key_of(number), host_of(number)
        ca = make_ca(f"CA {number}", days=2)
        (folder / f"{host}.pem").write_bytes(make_leaf(ca, [host], days=2).combined_pem)
        yield (
            connector(name, f"https://{host}:{port}", namespace=namespace),
            secret(name, namespace=namespace, token=token_of(number), ca=ca.pem.decode()),
        )


class Source(Protocol):
    """Place from which the proxy reads Connectors, and which issues the tokens of callers."""

    async def publish(self, objects: Iterator[tuple[Json, Json]]) -> None: ...

    def issue_token(self, number: int) -> str: ...

    def usage(self) -> dict[str, float]:
        """Return the CPU seconds so far, and the resident MB, of the API server if there is one."""
        ...


class FolderSource:
    def __init__(self, home: Path) -> None:
        self._folder = home / "connectors"
        self._key = SigningKey.load_or_create(home)

    async def publish(self, objects: Iterator[tuple[Json, Json]]) -> None:
        """Write one file for each namespace."""
        by_namespace: dict[str, list[Json]] = {}
        for pair in objects:
            by_namespace.setdefault(pair[0]["metadata"]["namespace"], []).extend(pair)
        for namespace, manifests in by_namespace.items():
            write_manifests(self._folder, *manifests, file=f"{namespace}.yaml")

    def issue_token(self, number: int) -> str:
        return self._key.issue(key_of(number), ttl=3600, now=time.time(), audience=AUDIENCE)

    def usage(self) -> dict[str, float]:
        return {}


class ClusterSource:
    """A control plane with our definitions and roles. The account `default` of a namespace may use its Connectors."""

    def __init__(self, plane: ControlPlane, count: int) -> None:
        self._plane = plane
        plane.kubectl("apply", "-k", str(ROOT / "deploy" / "crds"))
        plane.kubectl.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
        plane.kubectl("apply", "-f", str(ROOT / "deploy" / "system" / "namespace.yaml"))
        plane.kubectl("apply", "-k", str(ROOT / "deploy" / "rbac"))
        self._tokens: list[Sequence[str]] = []
        for number in range(min(NAMESPACES, count)):
            namespace = plane.create_namespace(key_of(number).namespace)
            subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
            plane.api.apply(role_binding(subject), namespace=namespace)
            issue = partial(plane.token_issuer.issue_many, audiences=[AUDIENCE], lifetime=7200)
            self._tokens.append(issue(count // NAMESPACES + 1, namespace, "default"))

    def options(self) -> dict[str, str]:
        return {"connector_source": "kubernetes", "connector_targets_allow": "127.0.0.0/8"}

    def environment(self) -> dict[str, str]:
        token = self._plane.issue_token(SYSTEM_NAMESPACE, "connectors-proxy", lifetime=7200)
        return {"KUBECONFIG": str(self._plane.write_kubeconfig("proxy.kubeconfig", {"token": token}))}

    async def publish(self, objects: Iterator[tuple[Json, Json]]) -> None:
        configuration = await config_loader.load_configuration(kubeconfig=str(self._plane.kubeconfig))
        async with KubeClient(configuration) as client:

            async def write() -> None:
                for raw, raw_secret in objects:
                    namespace = raw["metadata"]["namespace"]
                    await client.create(SECRETS.path(namespace), raw_secret)
                    await client.create(CONNECTORS.path(namespace), raw)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(WRITERS):
                    tasks.create_task(write())

    def issue_token(self, number: int) -> str:
        return self._tokens[number % NAMESPACES][number // NAMESPACES]

    def usage(self) -> dict[str, float]:
        usage = read_usage(self._plane.apiserver.pid)
        return {"cpu": usage.cpu, "resident, MB": usage.rss // 10**6}


def role_binding(subject: Json) -> Json:
    """Return a binding that lets `subject` use the Connectors of a namespace."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "use"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "connectors-user"},
        "subjects": [subject],
    }


class Clients:
    """Callers of the Connectors, each with a token and connections of its own. A call returns its outcome."""

    def __init__(self, endpoint: Endpoint, source: Source, target_port: int) -> None:
        host, _, port = endpoint.proxy.rpartition(":")
        self._proxy = host, int(port)
        self._target_port = target_port
        self._source = source
        self._context = ssl.create_default_context(cafile=str(endpoint.ca))
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT

    async def call_by_tunnel(self, number: int) -> str:
        authority = f"{host_of(number)}:{self._target_port}"
        credentials = base64.b64encode(f"{key_of(number)}:{self._source.issue_token(number)}".encode()).decode()
        reader, writer = await asyncio.open_connection(*self._proxy)
        try:
            fields = (f"Host: {authority}", f"Proxy-Authorization: Basic {credentials}")
            status = await send_request(reader, writer, f"CONNECT {authority}", *fields)
            if status != "200":
                return f"CONNECT {status}"
            await writer.start_tls(self._context, server_hostname=host_of(number))
            return await send_request(reader, writer, "GET /version", f"Host: {authority}")
        finally:
            writer.transport.abort()

    async def call_by_alias(self, number: int) -> str:
        namespace, name = key_of(number)
        alias = f"c-{name}.{namespace}.svc.{CLUSTER_DOMAIN}"
        reader, writer = await asyncio.open_connection(*self._proxy, ssl=self._context, server_hostname=alias)
        try:
            fields = (f"Host: {alias}", f"Authorization: Bearer {self._source.issue_token(number)}")
            return await send_request(reader, writer, "GET /version", *fields)
        finally:
            writer.transport.abort()


async def send_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, *fields: str) -> str:
    """Send a request without a body, and return the status."""
    writer.write("\r\n".join((f"{target} HTTP/1.1", *fields, "", "")).encode())
    return (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()


async def measure_pass(endpoint: Endpoint, source: Source, call: Call, count: int) -> dict[str, Any]:
    """Make one call for each Connector, and return the CPU, the latency and the outcomes other than 200."""
    latencies, outcomes = [], Counter[str]()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            started_at = time.perf_counter()
            try:
                outcome = await asyncio.wait_for(call(number), TIMEOUT)
            except (OSError, asyncio.IncompleteReadError) as error:
                outcome = getattr(error, "reason", None) or type(error).__name__
            outcomes[outcome] += 1
            latencies.append(time.perf_counter() - started_at)

    before, before_api = endpoint.process.usage().cpu, source.usage().get("cpu", 0.0)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENT_CALLS):
            tasks.create_task(work())
    cpu = endpoint.process.usage().cpu - before
    quantiles = statistics.quantiles(latencies, n=100)
    failed = {text: number for text, number in outcomes.items() if text != "200"}
    api_cpu = source.usage().get("cpu", 0.0) - before_api
    return {
        "cpu per call, µs": round(cpu / count * 1e6),
        "API server's cpu per call, µs": round(api_cpu / count * 1e6),
        "p50, ms": round(quantiles[49] * 1e3, 1),
        "p99, ms": round(quantiles[98] * 1e3, 1),
        "failed": failed,
    }


def scrape(endpoint: Endpoint) -> str:
    with urllib.request.urlopen(f"http://{endpoint.admin}/metrics", timeout=TIMEOUT) as response:
        text: str = response.read().decode()
        return text


def count_objects(endpoint: Endpoint) -> dict[str, int]:
    """Return the number of Connectors and Secrets in the store of the proxy."""
    text = scrape(endpoint)
    prefix = 'connector_store_objects{kind="'
    lines = [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]
    counts = {kind: int(float(value)) for kind, _, value in (line.partition('"} ') for line in lines)}
    return {kind: counts[kind] for kind in ("Connector", "Secret")}


def wait_for_objects(endpoint: Endpoint, expected: Mapping[str, int]) -> None:
    deadline = time.monotonic() + SYNC_TIMEOUT
    while (counts := count_objects(endpoint)) != expected:
        if time.monotonic() > deadline:
            log = endpoint.process.log.read_text()[-2000:]
            raise RuntimeError(f"the proxy has read {counts} and not {expected}: {log}")
        time.sleep(0.5)


async def measure(endpoint: Endpoint, source: Source, folder: Path, count: int, calls: int) -> dict[str, Any]:
    tokens = {host_of(number): f"Bearer {token_of(number)}\r\n".encode() for number in range(count)}
    figures: dict[str, Any] = {
        "connectors": count,
        "calls in a pass": calls,
        "load": os.getloadavg()[0],
        "resident without Connectors, MB": endpoint.process.usage().rss // 10**6,
    }
    expected = {kind: number + count for kind, number in count_objects(endpoint).items()}
    async with serve_targets(folder, tokens) as port:
        await source.publish(make_objects(folder, port, count))
        wait_for_objects(endpoint, expected)
        clients = Clients(endpoint, source, port)
        figures["resident at rest, MB"] = endpoint.process.usage().rss // 10**6
        for name, call in (
            ("tunnel, first", clients.call_by_tunnel),
            ("tunnel, again", clients.call_by_tunnel),
            ("alias", clients.call_by_alias),
        ):
            figures[name] = await measure_pass(endpoint, source, call, calls)
        before, started_at = endpoint.process.usage().cpu, time.perf_counter()
        text = await asyncio.to_thread(scrape, endpoint)
        figures["scrape"] = {
            "series": sum(not line.startswith("#") for line in text.splitlines()),
            "cpu, ms": round((endpoint.process.usage().cpu - before) * 1e3),
            "duration, ms": round((time.perf_counter() - started_at) * 1e3),
        }
        figures["resident, MB"] = endpoint.process.usage().rss // 10**6
        return figures | {"API server": source.usage()}


def run_on_folder(testbed: Testbed, count: int, calls: int) -> dict[str, Any]:
    endpoint = start_proxy(testbed, name="wide")
    try:
        source = FolderSource(endpoint.process.log.parent)
        return asyncio.run(measure(endpoint, source, testbed.make_folder("targets"), count, calls))
    finally:
        endpoint.process.stop()


def run_on_cluster(testbed: Testbed, count: int, calls: int) -> dict[str, Any]:
    with ControlPlane(testbed.make_folder("control-plane")) as plane:
        source = ClusterSource(plane, count)
        endpoint = start_proxy(testbed, name="wide", options=source.options(), env=source.environment())
        try:
            return asyncio.run(measure(endpoint, source, testbed.make_folder("targets"), count, calls))
        finally:
            endpoint.process.stop()


def main(arguments: list[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--connectors", type=int, default=5000)
    parser.add_argument("--calls", type=int, help="callers in each pass; default: as many as Connectors")
    parser.add_argument("--folder", action="store_true", help="the proxy reads a folder in place of an API server")
    options = parser.parse_args(arguments)
    with open_testbed() as testbed:
        figures = (run_on_folder if options.folder else run_on_cluster)(
            testbed, options.connectors, min(options.calls or options.connectors, options.connectors)
        )
    write_figures(figures, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
