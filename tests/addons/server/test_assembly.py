"""Assembly of the proxy's parts from its options."""

import asyncio
from pathlib import Path

import aiohttp

from tests.fakes.proxy import PATIENCE, Proxy, running_proxy
from tests.fakes.waiting import until


async def test_a_store_that_lists_makes_the_proxy_ready(proxy: Proxy) -> None:
    assert not proxy.context.access_context.unsynced
    assert proxy.context.store.synced


async def test_health_readiness_and_metrics_are_served(folder: Path, confdir: Path, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"

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
        proxy.context.certificates.create_tunnel_session("k8s.example")
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
