"""Measure one proxy with many Connectors that have nothing in common: hosts, CAs, tokens, callers, in 200 namespaces.

    python -m bench.wide [--connectors 5000] [--json FILE]

Each caller uses its own Connector once in a pass: by CONNECT, by CONNECT again, and by the alias. Clients verify the
proxy's certificate. The proxy reads a folder. Clients and targets run in this process, so the latency includes theirs.
"""

import argparse
import asyncio
import base64
import json
import ssl
import statistics
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bench.peers.connector_proxy import SYNC_TIMEOUT, start_proxy
from bench.peers.endpoint import Endpoint
from bench.testbed import open_testbed
from connector_store.domain.base.names import ObjectKey
from connector_store.folder.caller_tokens import SigningKey
from lab.certificates import make_ca, make_leaf
from lab.manifests import connector, secret, write_manifests

NAMESPACES: Final = 200
CONCURRENT_CALLS: Final = 50
TIMEOUT: Final = 60.0
CLUSTER_DOMAIN: Final = "cluster.local"
OWN_CONNECTORS: Final = 3
"""Connectors of `start_proxy`."""
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FORBIDDEN: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

Call = Callable[[int], Coroutine[Any, Any, str]]


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


def write_connectors(source: Path, folder: Path, port: int, count: int) -> None:
    """Write the manifests of `count` Connectors to `source`, one file for each namespace, and the keys to `folder`."""
    objects: dict[str, list[dict[str, Any]]] = {}
    for number in range(count):
        (namespace, name), host = key_of(number), host_of(number)
        ca = make_ca(f"CA {number}", days=2)
        (folder / f"{host}.pem").write_bytes(make_leaf(ca, [host], days=2).combined_pem)
        objects.setdefault(namespace, []).extend(
            (
                connector(name, f"https://{host}:{port}", namespace=namespace),
                secret(name, namespace=namespace, token=token_of(number), ca=ca.pem.decode()),
            )
        )
    for namespace, manifests in objects.items():
        write_manifests(source, *manifests, file=f"{namespace}.yaml")


class Clients:
    """Callers of the Connectors, each with a token and connections of its own. A call returns its outcome."""

    def __init__(self, endpoint: Endpoint, target_port: int) -> None:
        host, _, port = endpoint.proxy.rpartition(":")
        self._proxy = host, int(port)
        self._target_port = target_port
        self._key = SigningKey.load_or_create(endpoint.process.log.parent)
        self._context = ssl.create_default_context(cafile=str(endpoint.ca))
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT

    async def call_by_tunnel(self, number: int) -> str:
        authority = f"{host_of(number)}:{self._target_port}"
        credentials = base64.b64encode(f"{key_of(number)}:{self._token(number)}".encode()).decode()
        reader, writer = await asyncio.open_connection(*self._proxy)
        try:
            fields = (f"Host: {authority}", f"Proxy-Authorization: Basic {credentials}")
            status = await _request(reader, writer, f"CONNECT {authority}", *fields)
            if status != "200":
                return f"CONNECT {status}"
            await writer.start_tls(self._context, server_hostname=host_of(number))
            return await _request(reader, writer, "GET /version", f"Host: {authority}")
        finally:
            writer.transport.abort()

    async def call_by_alias(self, number: int) -> str:
        namespace, name = key_of(number)
        alias = f"c-{name}.{namespace}.svc.{CLUSTER_DOMAIN}"
        reader, writer = await asyncio.open_connection(*self._proxy, ssl=self._context, server_hostname=alias)
        try:
            fields = (f"Host: {alias}", f"Authorization: Bearer {self._token(number)}")
            return await _request(reader, writer, "GET /version", *fields)
        finally:
            writer.transport.abort()

    def _token(self, number: int) -> str:
        return self._key.issue(key_of(number), ttl=3600, now=time.time(), audience="connectors-proxy")


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, *fields: str) -> str:
    """Send a request without a body, and return the status."""
    writer.write("\r\n".join((f"{target} HTTP/1.1", *fields, "", "")).encode())
    return (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()


async def measure_pass(endpoint: Endpoint, call: Call, count: int) -> dict[str, Any]:
    """Make one call for each Connector, and return the proxy's CPU, the latency and the outcomes other than 200."""
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

    before = endpoint.process.usage().cpu
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENT_CALLS):
            tasks.create_task(work())
    cpu = endpoint.process.usage().cpu - before
    quantiles = statistics.quantiles(latencies, n=100)
    failed = {text: number for text, number in outcomes.items() if text != "200"}
    return {
        "cpu per call, µs": round(cpu / count * 1e6),
        "p50, ms": round(quantiles[49] * 1e3, 1),
        "p99, ms": round(quantiles[98] * 1e3, 1),
        "failed": failed,
    }


def scrape(endpoint: Endpoint) -> str:
    with urllib.request.urlopen(f"http://{endpoint.admin}/metrics", timeout=TIMEOUT) as response:
        text: str = response.read().decode()
        return text


def wait_for_connectors(endpoint: Endpoint, count: int) -> None:
    expected = f'connector_store_objects{{kind="Connector"}} {count + OWN_CONNECTORS}.0'
    deadline = time.monotonic() + SYNC_TIMEOUT
    while expected not in scrape(endpoint):
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"the proxy does not read {count} Connectors: {endpoint.process.log.read_text()[-2000:]}"
            )
        time.sleep(0.5)


async def measure(endpoint: Endpoint, folder: Path, count: int) -> dict[str, Any]:
    source = endpoint.process.log.parent / "connectors"
    tokens = {host_of(number): f"Bearer {token_of(number)}\r\n".encode() for number in range(count)}
    async with serve_targets(folder, tokens) as port:
        write_connectors(source, folder, port, count)
        wait_for_connectors(endpoint, count)
        clients = Clients(endpoint, port)
        figures: dict[str, Any] = {"connectors": count, "resident at rest, MB": endpoint.process.usage().rss // 10**6}
        figures["tunnel, first"] = await measure_pass(endpoint, clients.call_by_tunnel, count)
        figures["tunnel, again"] = await measure_pass(endpoint, clients.call_by_tunnel, count)
        figures["alias"] = await measure_pass(endpoint, clients.call_by_alias, count)
        before, started_at = endpoint.process.usage().cpu, time.perf_counter()
        text = await asyncio.to_thread(scrape, endpoint)
        figures["scrape"] = {
            "series": sum(not line.startswith("#") for line in text.splitlines()),
            "cpu, ms": round((endpoint.process.usage().cpu - before) * 1e3),
            "duration, ms": round((time.perf_counter() - started_at) * 1e3),
        }
        return figures | {"resident, MB": endpoint.process.usage().rss // 10**6}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connectors", type=int, default=5000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args(arguments)
    with open_testbed() as testbed:
        endpoint = start_proxy(testbed, name="wide")
        try:
            figures = asyncio.run(measure(endpoint, testbed.make_folder("targets"), options.connectors))
        finally:
            endpoint.process.stop()
    text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
