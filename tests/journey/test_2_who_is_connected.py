"""Who is connected, on two replicas: the page in a Chromium and the command show a watch soon, and drop it soon."""

import asyncio
import base64
import contextlib
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest

from lab.process import environment_without_proxies
from tests.cluster.kube.installation import AUDIENCE
from tests.fakes.chromium import Tab, browser_tab
from tests.fakes.proxy import ClientConnection
from tests.fakes.waiting import until
from tests.journey.product import Product
from tests.journey.worker import CONNECTOR, NAMESPACE, Worker
from tests.journey.worker_commands import PORT, running_proxies

WATCHES: Final = 20
NEARLY_ALL: Final = 19
SOON, LATE = 1.0, 3.0
"""Seconds within which nearly all changes show, and all of them. A busy machine gets more, by its load."""
ROUNDS: Final = 8
"""Maximum number of measurements. Other work on the machine can only make one worse."""
KEY: Final = f"{NAMESPACE}/{CONNECTOR}"
COUNT_ROWS: Final = (
    f"[...document.querySelectorAll('#sessions-rows tr')].filter(row => row.innerText.includes('{KEY}')).length"
)


class Counts:
    """Numbers of rows that a reader has shown, with their times."""

    def __init__(self) -> None:
        self._counts: list[tuple[float, int]] = []

    def add(self, count: int) -> None:
        self._counts.append((time.monotonic(), count))

    @property
    def latest(self) -> int:
        return self._counts[-1][1] if self._counts else -1

    def delays(self, since: float, changed_at: list[float], is_shown: Callable[[int, int], bool]) -> list[float]:
        """Return the seconds until each change shows. `is_shown` gets its number and a number of rows.

        No row changed between `since` and the first change. A row may show before the test knows of the change.
        """
        return sorted(
            max(0.0, next(shown for shown, count in self._counts if shown >= since and is_shown(number, count)) - at)
            for number, at in enumerate(changed_at, start=1)
        )


@contextlib.asynccontextmanager
async def connectorctl(product: Product, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """Yield the output of a command that runs until it is killed."""
    environment = environment_without_proxies() | {
        "KUBECONFIG": str(product.node.control_plane.kubeconfig), "PYTHONUNBUFFERED": "1"
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectorctl", *arguments, "--source", "kubernetes",
        stdout=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.communicate()


async def count_drawn_rows(output: asyncio.StreamReader, counts: Counts) -> None:
    """Count the rows of each table that `connectorctl sessions -w` draws."""
    drawing = ""
    while data := await output.read(65536):
        drawing += data.decode()
        drawing = drawing[max(drawing.rfind("AGE "), drawing.rfind("No live"), 0) :]
        counts.add(drawing.count(KEY))


async def count_page_rows(tabs: list[Tab], counts: Counts) -> None:
    while True:
        counts.add(sum(await asyncio.gather(*(tab.evaluate(COUNT_ROWS) for tab in tabs))))
        await asyncio.sleep(0.05)


async def open_watch(proxy: str, authority: str, token: str) -> ClientConnection:
    client = ClientConnection(*await asyncio.open_connection(proxy, PORT))
    credentials = base64.b64encode(f"{KEY}:{token}".encode()).decode()
    await client.send(f"CONNECT {authority} HTTP/1.1\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode())
    assert (await client.read_response(body=False)).status == 200
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await client.writer.start_tls(context, server_hostname=authority.rpartition(":")[0])
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1"
    await client.send(f"GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    assert (await client.read_head())[0] == 200
    return client


async def change_watches(worker: Worker, page: Counts, command: Counts) -> dict[str, list[float]]:
    """Open all watches, half of them at each proxy, and close them again.

    Return the delays of all changes by what changed and where it shows.
    """
    await until(lambda: page.latest == command.latest == 0, "both show that nobody is connected")
    product = worker.product
    token = product.kubectl("create", "token", "default", f"--audience={AUDIENCE}", namespace=NAMESPACE).strip()
    authority = product.node.control_plane.url.removeprefix("https://").strip("/")
    addresses = list(running_proxies(product).values())
    assert len(addresses) == 2
    opened_at, closed_at, watches, opening_at = [], [], [], time.monotonic()
    for number in range(WATCHES):
        watches.append(await open_watch(addresses[number % 2], authority, token))
        opened_at.append(time.monotonic())
        await asyncio.sleep(0.1)
    await until(lambda: page.latest == command.latest == WATCHES, "all rows show")
    closing_at = time.monotonic()
    for watch in watches:
        watch.close()
        closed_at.append(time.monotonic())
        await asyncio.sleep(0.1)
    await until(lambda: page.latest == command.latest == 0, "all rows are gone")
    delays = {}
    for name, counts in (("page", page), ("command", command)):
        delays[f"shows on the {name}"] = counts.delays(opening_at, opened_at, lambda number, count: count >= number)
        delays[f"goes on the {name}"] = counts.delays(
            closing_at, closed_at, lambda number, count: count <= WATCHES - number
        )
    return delays


def is_soon(delays: list[float]) -> bool:
    slowness = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    return delays[NEARLY_ALL - 1] <= SOON * slowness and delays[-1] <= LATE * slowness


@pytest.fixture
async def tabs(worker: Worker, tmp_path: Path) -> AsyncIterator[list[Tab]]:
    """Yield a tab for each proxy, with its page."""
    async with contextlib.AsyncExitStack() as stack:
        output = await stack.enter_async_context(connectorctl(worker.product, "page", "--no-browser"))
        tabs = []
        for number in range(2):
            url = (await asyncio.wait_for(output.readline(), 180)).decode().strip()
            tabs.append(await stack.enter_async_context(browser_tab(tmp_path / str(number), ("", ""))))
            await tabs[-1].open(url)
        yield tabs


async def test_a_watch_shows_and_goes_within_a_second(worker: Worker, tabs: list[Tab]) -> None:
    page, command = Counts(), Counts()
    async with connectorctl(worker.product, "sessions", "-w", "-n", NAMESPACE) as output:
        counting = [
            asyncio.ensure_future(count_page_rows(tabs, page)),
            asyncio.ensure_future(count_drawn_rows(output, command)),
        ]
        late: list[dict[str, list[float]]] = []
        while len(late) < ROUNDS:
            delays = await change_watches(worker, page, command)
            # What was soon in one round was not slow in another because of the product.
            remaining = late[-1] if late else delays
            late.append({change: delays[change] for change in remaining if not is_soon(delays[change])})
            if not late[-1]:
                break
        for task in counting:
            task.cancel()
        await asyncio.gather(*counting, return_exceptions=True)
    assert not late[-1], f"seconds until each watch shows and goes: {late}"
