"""1,000 callers open tunnels at one moment, and send a request by TLS in them.

A real proxy reviews all of them, and refuses and closes none.
"""

import asyncio
import base64
import itertools
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.kube.resources import CONNECTORS, SECRETS
from lab.kubectl import write_kubeconfig
from lab.targets import CA, run_target
from tests.cluster.proxy.running_proxy import RunningProxy
from tests.fakes.api_server import FakeApiServer, issue_token, user
from tests.fakes.background import background
from tests.fakes.manifests import connector, secret

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CALLERS: Final = 1000
CLIENT_TIMEOUT: Final = 120.0
"""Seconds, instead of 10, because clients, API server and target share a busy machine with the proxy."""
CPU_LIMIT: Final = 0.004
"""Maximum seconds of the proxy's CPU for each caller, on an idle machine."""
ROUNDS: Final = 5
"""Maximum number of herds of one kind. Other work on the machine can only make one worse."""
BUSY_FACTOR: Final = 3
"""Factor by which CPU takes longer on a busy machine, whose programs share caches and cores."""
KEY: Final = ObjectKey("team-a", "k8s")

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serve_api(tokens: list[str], target: str) -> AsyncIterator[FakeApiServer]:
    """Serve one Connector, and accept the tokens. Each caller is an account of its own."""
    async with FakeApiServer().serving() as server:
        await server.put(CONNECTORS, connector(KEY.name, target, namespace=KEY.namespace))
        await server.put(SECRETS, secret(namespace=KEY.namespace, ca=CA.pem))
        for number, token in enumerate(tokens):
            server.users[token] = user(f"caller-{number}")
            server.allowed.add((f"caller-{number}", str(KEY)))
        yield server


class Herd:
    """Callers of one Connector, each with a connection of its own."""

    def __init__(self, proxy: RunningProxy, authority: str) -> None:
        self._port = proxy.port
        self._authority = authority
        self._context = ssl.create_default_context(cadata=proxy.ca_pem().decode())
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT

    async def call(self, tokens: list[str], sources: int) -> Counter[str]:
        """Open all tunnels at one moment, and then send a request by TLS in each. Return the number of each outcome.

        The steps follow each other, because clients, API server and target share a core here. An API server that waits
        for the clients' handshakes would answer some reviews too late.
        """
        addresses = (f"127.0.0.{1 + number % sources}" for number in range(len(tokens)))
        connections = await asyncio.gather(*map(self._connect, addresses))
        try:
            statuses = await asyncio.gather(*map(self._open_tunnel, connections, tokens))
            if set(statuses) != {"200"}:
                return Counter(f"CONNECT: {status}" for status in statuses)
            return Counter(await asyncio.gather(*map(self._send_request, connections)))
        finally:
            for _, writer in connections:
                writer.transport.abort()

    async def _connect(self, source: str) -> Connection:
        return await asyncio.open_connection("127.0.0.1", self._port, local_addr=(source, 0))

    async def _open_tunnel(self, connection: Connection, token: str) -> str:
        login = base64.b64encode(f"{KEY}:{token}".encode()).decode()
        return await self._send(connection, f"CONNECT {self._authority}", f"Proxy-Authorization: Basic {login}")

    async def _send_request(self, connection: Connection) -> str:
        try:
            await connection[1].start_tls(
                self._context,
                server_hostname=self._authority.partition(":")[0],
                ssl_handshake_timeout=CLIENT_TIMEOUT,
            )
        except OSError as error:
            return type(error).__name__
        return await self._send(connection, "GET /version")

    async def _send(self, connection: Connection, target: str, *fields: str) -> str:
        """Send a request. Return the status, or why there is none."""
        reader, writer = connection
        try:
            writer.write("\r\n".join((f"{target} HTTP/1.1", f"Host: {self._authority}", *fields, "", "")).encode())
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError) as error:
            return type(error).__name__
        return head.split()[1].decode()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a herd got, and what it cost."""

    statuses: Counter[str]
    seconds: float
    cpu: float
    """Seconds of the proxy's CPU for each caller."""
    reviews: int

    def is_good(self) -> bool:
        return (
            self.statuses == {"200": CALLERS}
            and self.seconds <= CLIENT_TIMEOUT
            and self.cpu <= BUSY_FACTOR * CPU_LIMIT
            and self.reviews == CALLERS
        )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_1000_callers_at_one_moment_are_all_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    herds = {1: "one address", 200: "200 addresses"}
    tokens = [issue_token(f"caller-{number}") for number in range(CALLERS * ROUNDS * len(herds))]
    unused_tokens = itertools.batched(tokens, CALLERS)
    with run_target() as target, background(serve_api(tokens, target.address)) as (server, _):
        kubeconfig = write_kubeconfig(
            tmp_path / "kubeconfig", server=server.url, ca_pem="", user={"token": issue_token("proxy")}
        )
        options = {
            "connector_source": "kubernetes",
            "connector_client_timeout": str(CLIENT_TIMEOUT),
            # Longer than the herds, so that each caller is reviewed once.
            "connector_recheck": "600",
            "connector_connect_timeout": str(CLIENT_TIMEOUT),
            "connector_targets_allow": "127.0.0.0/8",
            "connector_audit": "json",
        }
        environment = {"KUBECONFIG": str(kubeconfig)}
        proxy = RunningProxy(tmp_path / "proxy", program="addons", options=options, environment=environment)
        with proxy:
            herd = Herd(proxy, target.address.removeprefix("https://"))
            for sources, name in herds.items():
                outcomes: list[Outcome] = []
                while not outcomes or not outcomes[-1].is_good():
                    assert len(outcomes) < ROUNDS, f"callers from {name}: {outcomes}"
                    cpu_before, started_at = cpu_seconds(proxy.process.pid), time.monotonic()
                    reviews_before = server.count("POST", "tokenreviews")
                    statuses = asyncio.run(herd.call(list(next(unused_tokens)), sources))
                    seconds = time.monotonic() - started_at
                    cpu = (cpu_seconds(proxy.process.pid) - cpu_before) / CALLERS
                    reviews = server.count("POST", "tokenreviews") - reviews_before
                    outcomes.append(Outcome(statuses=statuses, seconds=seconds, cpu=cpu, reviews=reviews))
                    with capsys.disabled():
                        line = f"{CALLERS} callers from {name}: {seconds:.1f} s, {cpu * 1000:.2f} ms of CPU each"
                        sys.stdout.write(f"\n{line}\n")
