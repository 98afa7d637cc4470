"""A dependency hangs under 600 callers. Callers of something else are served as fast as before."""

import asyncio
import json
import math
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from connector_store.kube.resources import CONNECTORS, SECRETS
from lab.kubectl import write_kubeconfig
from lab.oidc_issuer import SigningKey
from lab.targets import CA, run_target
from tests.cluster.proxy.running_proxy import AUDIENCE, RunningProxy
from tests.fakes.api_server import FakeApiServer, NoResponse, issue_token, user
from tests.fakes.background import background
from tests.fakes.latency import FLOOR, Latency, is_as_fast
from tests.fakes.manifests import connector, secret

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

HANGING_CALLERS: Final = 600
ADDRESSES: Final = 6
"""Source addresses of these callers. Each may have 200 unauthenticated connections."""
CALLS: Final = 100
HANG_SECONDS: Final = 60
"""Seconds after which the proxy refuses a caller that hangs."""
ROUNDS: Final = 30
"""Maximum number of comparisons for one dependency. Other work on the machine can only make one worse."""
NAMESPACE: Final = "team-a"
NAMED: Final = [f"named-{number}" for number in range(60)]
"""Connectors whose targets have names, which no name server resolves."""


VERIFIED: Final = issue_token("verified")
NEWCOMERS: Final = [issue_token(f"newcomer-{number}") for number in range(HANGING_CALLERS)]


@pytest.fixture
def silent_url() -> Iterator[str]:
    """URL of a listener that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent_name_server() -> Iterator[str]:
    """IP:PORT of a socket that receives queries and answers none."""
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        yield "{}:{}".format(*server.getsockname())


def issuing_connector(address: str) -> dict[str, Any]:
    manifest = connector("issuing", address)
    params = [{"name": "serviceAccount", "value": "ci/account"}]
    manifest["spec"]["auth"] |= {"name": "serviceAccountTokenAuth", "params": params}
    return manifest


@asynccontextmanager
async def serve_api(target: str, silent: str) -> AsyncIterator[FakeApiServer]:
    """Serve the Connectors. The caller `verified` may use all of them. Reviews of newcomers hang."""
    async with FakeApiServer().serving() as server:
        named = [connector(name, f"https://{name}.example:6443") for name in NAMED]
        for manifest in (connector("good", target), connector("dial", silent), issuing_connector(silent), *named):
            await server.put(CONNECTORS, manifest)
            server.allowed.add(("verified", f"{NAMESPACE}/{manifest['metadata']['name']}"))
        await server.put(SECRETS, secret(ca=CA.pem))
        server.users[VERIFIED] = user("verified")

        def hang(request: web.Request) -> web.Response | None:
            body = server.requests[-1][2]["body"]
            is_newcomer = request.path.endswith("tokenreviews") and body["spec"]["token"] in NEWCOMERS
            return NoResponse() if is_newcomer else None

        server.faults.append(hang)
        yield server


def authentication_file(path: Path, issuer: str) -> Path:
    entry = {
        "issuer": {"url": issuer, "audiences": [AUDIENCE], "certificateAuthority": CA.pem.decode()},
        "claimMappings": {"username": {"claim": "sub", "prefix": "ci:"}},
    }
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [entry]}
    path.write_text(json.dumps(document))
    return path


async def call(port: int, token: str, connector_name: str = "good", source: str = "127.0.0.1") -> int:
    """Send one request on a new connection. Return its status, or 0 if the proxy closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        path = f"/connectors/{NAMESPACE}/{connector_name}/api"
        fields = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
        writer.write(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode())
        line = await reader.readline()
        return int(line.split()[1]) if line else 0
    finally:
        writer.close()


async def measure(port: int) -> Latency:
    """Return the latency of calls through another Connector."""
    seconds: list[float] = []
    for _ in range(CALLS):
        started_at = time.perf_counter()
        assert await call(port, VERIFIED) == 200
        seconds.append(time.perf_counter() - started_at)
    return Latency.of(seconds)


async def wait_until_quick(port: int, limit: float) -> None:
    """Wait until the proxy has accepted the burst of callers, which costs about 1 s of CPU.

    Then ten calls in a row take less than `limit` seconds each. Do not wait for as long as callers hang.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(HANG_SECONDS / 2):
            quick_count = 0
            while quick_count < 10:
                started_at = time.perf_counter()
                await call(port, VERIFIED)
                quick_count = quick_count + 1 if time.perf_counter() - started_at < limit else 0


async def compare(port: int, hanging: list[tuple[str, str]]) -> tuple[Latency, Latency]:
    """Measure without and with callers of (token, Connector) that hang."""
    before = await measure(port)
    sources = [f"127.0.1.{1 + number % ADDRESSES}" for number in range(len(hanging))]
    tasks = [
        asyncio.create_task(call(port, token, name, source))
        for (token, name), source in zip(hanging, sources, strict=True)
    ]
    await wait_until_quick(port, max(FLOOR, before.p99))
    during = await measure(port)
    if sum(task.done() for task in tasks) > len(tasks) / 2:
        # The machine is so busy that most of the others do not hang any more.
        during = Latency(math.inf, math.inf)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return before, during


def test_callers_of_something_else_do_not_wait_for_a_dependency_that_hangs(
    tmp_path: Path, silent_url: str, silent_name_server: str
) -> None:
    key, claims = SigningKey("k"), {"iss": silent_url, "aud": AUDIENCE, "exp": int(time.time()) + 3600}
    issuer_tokens = [key.sign(claims | {"sub": f"job-{number}"}) for number in range(HANGING_CALLERS)]
    kinds = {
        "the dial of one target": [(VERIFIED, "dial")] * HANGING_CALLERS,
        "the token issuing of one target": [(VERIFIED, "issuing")] * HANGING_CALLERS,
        "the name server": [(VERIFIED, NAMED[number % len(NAMED)]) for number in range(HANGING_CALLERS)],
        "the keys of one issuer": [(token, "good") for token in issuer_tokens],
        "reviews of the API server": [(token, "good") for token in NEWCOMERS],
    }
    with run_target() as target, background(serve_api(target.address, silent_url)) as (server, _):
        login = {"token": issue_token("proxy")}
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", server=server.url, ca_pem="", user=login)
        options = {
            "connector_source": "kubernetes",
            "connector_targets_allow": "127.0.0.0/8",
            "connector_recheck": "600",
            "connector_connect_timeout": str(HANG_SECONDS),
            "connector_authentication": str(authentication_file(tmp_path / "authentication.yaml", silent_url)),
        }
        environment = {"KUBECONFIG": str(kubeconfig), "NAME_SERVER": silent_name_server}
        arguments = ["-s", str(Path(__file__).with_name("other_name_server.py"))]
        with RunningProxy(tmp_path / "proxy", options=options, environment=environment, arguments=arguments) as proxy:
            for kind, hanging in kinds.items():
                outcomes: list[tuple[Latency, Latency]] = []
                while not outcomes or not is_as_fast(*outcomes[-1]):
                    assert len(outcomes) < ROUNDS, f"{kind}: latencies before and during: {outcomes}"
                    outcomes.append(asyncio.run(compare(proxy.port, hanging)))
