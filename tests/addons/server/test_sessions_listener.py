"""The listener of the sessions page: who needs the secret, where its URL is written, and errors at its start."""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from addons.access.live_connections import LiveConnections
from addons.records.recent_use import RecentUse
from addons.server import sessions_listener
from addons.server.options import Config
from connector_store.domain.base.errors import ParseError
from connector_store.sessions_file import PREFIX, read_urls
from connector_store.store import Store
from tests.addons.access.test_live_connections import FakeParts
from tests.addons.server.test_folder import config
from tests.fakes.proxy import running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until
from tests.fakes.writes import TerminalStream

KEY = "team-a/k8s"
ANY_PORT = ("127.0.0.1", 0)
LOGGER = "addons.server.sessions_listener"


@contextlib.asynccontextmanager
async def serving(options: Config, *, in_pod: bool = False) -> AsyncIterator[asyncio.Task[None]]:
    parts = Store(), LiveConnections(FakeParts(), FakeParts(), recheck=30.0, cut_expired=False)
    task = asyncio.ensure_future(sessions_listener.serve(options, RecentUse(), lambda: parts, in_pod=in_pod))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def with_sessions(confdir: Path, address: tuple[str, int] | None = ANY_PORT) -> Config:
    return replace(config(confdir), sessions=address)


async def get_status(url: str, secret: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status


async def logged_url(caplog: pytest.LogCaptureFixture) -> str:
    """Return the URL that was logged, without what follows."""
    found = re.compile(r"sessions at (http://\S+)")
    await until(lambda: found.search(caplog.text))
    match = found.search(caplog.text)
    assert match is not None
    return match[1]


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)


async def test_without_an_address_nothing_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(with_sessions(tmp_path, None)) as task:
        await task
    assert caplog.text == ""
    assert read_urls(tmp_path) == []


async def test_on_a_laptop_json_needs_the_secret_of_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(with_sessions(tmp_path)):
        url = await logged_url(caplog)
        (full_url,) = read_urls(tmp_path)
        secret = full_url.removeprefix(f"{url}#")
        assert len(secret) == 32
        assert [await get_status(url + "sessions", each) for each in (secret, None, "x")] == [200, 401, 401]
        path = tmp_path / f"{PREFIX}{url.rpartition(':')[2].strip('/')}"
        assert path.stat().st_mode & 0o777 == 0o600
        assert secret not in caplog.text
        assert f"{url} (the URL with its secret is in {path})" in caplog.text
    assert read_urls(tmp_path) == [], "the file is removed at the end"
    with pytest.raises(aiohttp.ClientConnectorError):
        await get_status(url)


async def test_each_process_has_another_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    urls = set()
    for _ in range(2):
        async with serving(with_sessions(tmp_path)):
            await until(lambda: read_urls(tmp_path))
            urls.add(read_urls(tmp_path)[0].partition("#")[2])
    assert len(urls) == 2


async def test_in_a_pod_there_is_no_secret_and_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(with_sessions(tmp_path), in_pod=True):
        url = await logged_url(caplog)
        assert await get_status(url + "sessions") == 200
        assert read_urls(tmp_path) == []
        assert "#" not in url


async def test_a_terminal_shows_the_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", TerminalStream())
    async with serving(with_sessions(tmp_path)):
        assert [await logged_url(caplog)] == read_urls(tmp_path)


async def test_a_closed_stdout_is_not_a_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    async with serving(with_sessions(tmp_path)):
        assert "#" not in await logged_url(caplog)


async def test_an_ipv6_address_is_in_brackets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(with_sessions(tmp_path, ("::1", 0)), in_pod=True):
        url = await logged_url(caplog)
        assert re.fullmatch(r"http://\[::1\]:\d+/", url)
        assert await get_status(url + "sessions") == 200


async def test_the_end_of_a_proxy_does_not_hide_another_one(tmp_path: Path) -> None:
    async with serving(with_sessions(tmp_path)):
        await until(lambda: read_urls(tmp_path))
        (first,) = read_urls(tmp_path)
        async with serving(with_sessions(tmp_path)):
            await until(lambda: len(read_urls(tmp_path)) == 2)
            for url, _, secret in (full_url.partition("#") for full_url in read_urls(tmp_path)):
                assert await get_status(url + "sessions", secret) == 200
        assert read_urls(tmp_path) == [first]
    assert read_urls(tmp_path) == []


async def test_an_address_in_use_is_an_error_with_a_next_step(tmp_path: Path) -> None:
    with socket.create_server(ANY_PORT) as other:
        address: tuple[str, int] = other.getsockname()
        async with serving(with_sessions(tmp_path, address)) as task:
            with pytest.raises(ParseError) as caught:
                await task
    assert str(caught.value) == (
        f"connector_sessions: cannot listen at 127.0.0.1:{address[1]}: address already in use; choose another address "
        "with --set connector_sessions=HOST:PORT, or none with --set connector_sessions= (connectorctl proxy: after --)"
    )
    assert read_urls(tmp_path) == []


async def test_without_a_file_a_terminal_still_shows_the_url(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", TerminalStream())
    absent = tmp_path / "absent"
    async with serving(with_sessions(absent)):
        url, _, secret = (await logged_url(caplog)).partition("#")
        assert await get_status(url + "sessions", secret) == 200
    assert f"because {absent} cannot be written: No such file or directory" in caplog.text


async def test_without_a_file_and_a_terminal_nothing_listens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(with_sessions(tmp_path / "absent")) as task:
        await task
    assert "connectorctl sessions does not work" in caplog.text
    assert "sessions at" not in caplog.text


async def test_a_confdir_that_cannot_be_written_stops_the_page_only(
    folder: Path, confdir: Path, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sessions_listener, "write_url", refuse)
    async with running_proxy(folder, confdir, connector_sessions="auto") as proxy:
        await until(lambda: "cannot be written: Permission denied" in caplog.text)
        _, response = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
        assert response.status == 200
