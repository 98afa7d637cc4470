"""A proxy that serves its sessions page, and a reader of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connector_store.sessions_file import read_urls
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.waiting import until


class Reader:
    """Client of the sessions page with the secret of its URL."""

    def __init__(self, session: aiohttp.ClientSession, full_url: str) -> None:
        self.full_url = full_url
        self.url, _, self.secret = full_url.partition("#")
        self.port = int(self.url.rpartition(":")[2].strip("/"))
        self._session = session

    async def items(self, name: str) -> list[dict[str, Any]]:
        async with self.get(name) as response:
            assert response.status == 200, await response.text()
            items: list[dict[str, Any]] = (await response.json())["items"]
            return items

    def get(self, name: str, **headers: str) -> Any:
        fields = {"Authorization": f"Bearer {self.secret}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self._session.get(self.url + name, headers=fields)


@pytest.fixture
async def sessions_proxy(folder: Path, confdir: Path) -> AsyncIterator[Proxy]:
    async with running_proxy(folder, confdir, connector_sessions="auto") as running:
        await until(lambda: read_urls(confdir))
        yield running
    assert read_urls(confdir) == [], "the file is removed at the end"


@pytest.fixture
async def reader(sessions_proxy: Proxy) -> AsyncIterator[Reader]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Reader(session, read_urls(sessions_proxy.confdir)[0])
