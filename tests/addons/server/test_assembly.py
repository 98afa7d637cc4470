"""Assembly of the proxy's parts from its options."""

import asyncio
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import aiohttp

from addons.server.assembly import ProxyParts
from lab.ports import Port
from tests.fakes.proxy import PATIENCE, ClientConnection, Proxy, running_proxy
from tests.fakes.target import OK, FakeTarget, TargetConnection
from tests.fakes.waiting import until


async def test_a_store_that_lists_makes_the_proxy_ready(proxy: Proxy) -> None:
    assert not proxy.context.access_context.unsynced
    assert proxy.context.store.synced


async def test_health_readiness_and_metrics_are_served(folder: Path, confdir: Path) -> None:
    address = f"127.0.0.1:{Port().number}"

    async def get(path: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as response:
            return f"{response.status} {await response.text()}"

    async with running_proxy(folder, confdir, connector_admin=address) as proxy:
        for _ in range(int(PATIENCE / 0.05)):
            try:
                assert await get("/readyz") == "200 ok\n"
                break
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
        proxy.context.certificates.create_session(("k8s.example",))
        metrics = await get("/metrics")
    assert "connector_store_synced 1.0" in metrics
    assert "connector_ca_expiry_timestamp_seconds" in metrics
    assert "connector_served_certificate_expiry_timestamp_seconds" in metrics
    assert "connector_oldest_access_check_age_seconds 0.0" in metrics
    assert "connector_recheck_seconds 30.0" in metrics


async def test_the_cas_of_a_file_serve_connectors_without_one(
    folder: Path, confdir: Path, tmp_path: Path, confdir_template: Path
) -> None:
    file = confdir_template / "mitmproxy-ca-cert.pem"
    async with running_proxy(folder, confdir, connector_ca_file=str(file)) as proxy:
        await until(lambda: proxy.context.store.shared_ca == file.read_bytes())


def parts_of(proxy: Proxy) -> ProxyParts:
    parts: ProxyParts = proxy.master.addons.get("connections").parts()
    return parts


async def test_an_address_that_becomes_denied_is_left_at_once(proxy: Proxy, target: FakeTarget) -> None:
    """Idle connections, running requests and new ones; another change of the settings does none of this."""
    parts = parts_of(proxy)

    async def respond(connection: TargetConnection) -> None:
        while True:
            if (await connection.read_head()).startswith(b"GET /api "):
                await connection.send(OK)

    target.handler = respond
    authority, key = f"127.0.0.1:{target.port}", "team-a/k8s"

    async def open_request(path: bytes) -> ClientConnection:
        client = await proxy.tunnel(authority, f"{key}:{proxy.token(key)}")
        await client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, authority.encode()))
        return client

    first = await open_request(b"/api")
    assert (await first.read_response()).status == 200
    first.close()
    await until(lambda: len(proxy.context.upstream_pool) == 1)
    running = await open_request(b"/hang")
    await until(lambda: b"GET /hang" in b"".join(bytes(each.received) for each in target.connections))
    again = await open_request(b"/api")
    assert (await again.read_response()).status == 200
    again.close()
    await until(lambda: len(proxy.context.upstream_pool) == 1)
    parts.follow(replace(parts.settings, expiry_warning=5.0))
    assert (len(proxy.context.upstream_pool), proxy.context.expiry_warning) == (1, 5.0)
    denying = replace(parts.settings, targets_deny=(ip_network("127.0.0.0/8"),))
    parts.follow(denying)
    assert len(proxy.context.upstream_pool) == 0
    assert proxy.context.upstream_pool.discard_counts["address_denied"] == 1
    assert await asyncio.wait_for(running.reader.read(), PATIENCE) == b""
    _, answer = await proxy.connect(authority, f"{key}:{proxy.token(key)}")
    assert (answer.status, "targets-deny" in answer.phrase) == (503, True)
    parts.follow(parts.settings)
    allowed_again = await open_request(b"/api")
    assert (await allowed_again.read_response()).status == 200
