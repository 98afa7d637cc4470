"""The addons of docs/addons.md, next to ours in a real proxy."""

import asyncio
import datetime
import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.proxy import ClientConnection, Proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples" / "addons"
KEY = "team-a/k8s"


def add_example(proxy: Proxy, name: str, **replaced: Any) -> SimpleNamespace:
    """Load the file as mitmproxy does. `replaced` are names that its functions use."""
    names = runpy.run_path(str(EXAMPLES / name))
    functions = [value for value in names.values() if hasattr(value, "__globals__")]
    for function in functions:
        function.__globals__.update(replaced)
    addon = SimpleNamespace(**{key: value for key, value in names.items() if not key.startswith("_")}, name=name)
    proxy.master.addons.add(addon)
    return addon


async def send(proxy: Proxy, target: FakeTarget, request_line: str) -> ClientConnection:
    client = await proxy.tunnel_to(target)
    await client.send(f"{request_line} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nContent-Length: 0\r\n\r\n".encode())
    return client


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        pytest.param(
            "POST /api/v1/x?pretty=1", b"POST /api/v1/x?pretty=1&fieldManager=team-a%2Fk8s HTTP", id="a create"
        ),
        pytest.param("GET /api/v1/x", b"GET /api/v1/x HTTP", id="a list"),
    ],
)
async def test_the_caller_is_the_field_manager(
    flow_proxy: Proxy, target: FakeTarget, request_line: str, expected: bytes
) -> None:
    add_example(flow_proxy, "field_manager.py")
    client = await send(flow_proxy, target, request_line)
    assert (await client.read_response()).status == 200
    assert target.received.startswith(expected)


@pytest.mark.parametrize(
    ("day", "request_line", "status"),
    [
        pytest.param(27, "DELETE /api/v1/namespaces/web/pods/a", 403, id="a deletion on a Friday"),
        pytest.param(27, "DELETE /api/v1/namespaces/web/pods", 403, id="a deletion of a collection on a Friday"),
        pytest.param(27, "GET /api/v1/namespaces/web/pods/a", 200, id="a get on a Friday"),
        pytest.param(28, "DELETE /api/v1/namespaces/web/pods/a", 200, id="a deletion on a Saturday"),
    ],
)
async def test_deletions_are_refused_on_fridays(
    flow_proxy: Proxy, target: FakeTarget, day: int, request_line: str, status: int
) -> None:
    add_example(flow_proxy, "no_deletes_on_fridays.py", today=lambda: datetime.date(2026, 11, day))
    client = await send(flow_proxy, target, request_line)
    response = await client.read_response()
    assert response.status == status
    assert (target.received == b"") is (status == 403)
    assert status == 200 or response.json()["message"].startswith(f"{KEY}: no deletions on Fridays")


async def test_an_addon_that_raises_refuses_the_request(flow_proxy: Proxy, target: FakeTarget) -> None:
    def fail() -> datetime.date:
        raise OSError("no clock")

    add_example(flow_proxy, "no_deletes_on_fridays.py", today=fail)
    client = await send(flow_proxy, target, "DELETE /api/v1/namespaces/web/pods/a")
    response = await client.read_response()
    assert (response.status, target.received) == (500, b"")
    assert "an addon of the proxy failed" in response.json()["message"]


async def test_an_exec_is_announced_also_if_it_is_refused(flow_proxy: Proxy, target: FakeTarget) -> None:
    posts: list[bytes] = []

    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        posts.append(await reader.readexactly(int(length[1]) if length else 0))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(chat, "127.0.0.1")
    async with server:
        add_example(flow_proxy, "notify_on_exec.py")
        flow_proxy.master.options.update(notify_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        path = "/api/v1/namespaces/web/pods/a/exec"
        client = await send(flow_proxy, target, f"POST {path}")
        await client.read_response()
        await until(lambda: len(posts) == 1)
        refused = await send(flow_proxy, target, f"POST {path} HTTP/1.1\r\nImpersonate-User: root\r\nX: ")
        await refused.read_response()
        await until(lambda: len(posts) == 2)
        await send(flow_proxy, target, "GET /api/v1/namespaces/web/pods/a")
    texts = [json.loads(post)["text"] for post in posts]
    assert all("create pods/exec web/a" in text for text in texts)
    assert "Impersonate-User" in texts[1]


def test_the_page_shows_the_example_as_it_is() -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "addons.md").read_text(), re.DOTALL)
    assert snippet in (EXAMPLES / "no_deletes_on_fridays.py").read_text()
