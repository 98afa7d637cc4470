"""The sessions page in a real Chromium: what shows, what goes, and what hostile names and other origins can do."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.addons.sessions.conftest import Reader
from tests.addons.test_close_reasons import EXEC, SWITCH, WATCH, send_request, serving
from tests.fakes.chromium import Tab, browser_tab
from tests.fakes.proxy import Proxy
from tests.fakes.target import FakeTarget

pytestmark = pytest.mark.slow

HOSTILE = "%3Cimg%20src%3Dx%20onerror%3D%22window.hit%3D1%22%3E%E2%80%AE%1B%5B2J"
COLLECT = (
    "window.violations = []; addEventListener('securitypolicyviolation', "
    "event => violations.push(event.violatedDirective + ' ' + event.blockedURI))"
)


@pytest.fixture
async def tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with browser_tab(tmp_path / "profile", ("", "")) as running:
        await running.call("Page.addScriptToEvaluateOnNewDocument", source=COLLECT)
        yield running


async def wait_for(tab: Tab, expression: str) -> None:
    async with asyncio.timeout(120):
        while not await tab.evaluate(expression):  # noqa: ASYNC110 - the browser reports no change
            await asyncio.sleep(0.05)


def texts(table: str) -> str:
    return f"[...document.querySelectorAll('#{table}-rows tr')].map(row => row.innerText)"


async def test_a_session_shows_and_goes(sessions_proxy: Proxy, target: FakeTarget, reader: Reader, tab: Tab) -> None:
    await tab.open(reader.full_url)
    await wait_for(tab, "document.getElementById('state').textContent == 'connected'")
    assert await tab.evaluate("location.hash + document.cookie") == "", "the secret leaves the address bar"
    serving(target, WATCH)
    line = b"GET /api/v1/namespaces/web/pods?watch=1 HTTP/1.1\r\nHost: HOST\r\n\r\n"
    stream = await send_request(sessions_proxy, target, line)
    await stream.reader.readuntil(b"}\n\r\n")
    # The page may have shown the request before its response began.
    await wait_for(tab, f"{texts('sessions')}.some(text => text.split('\\t').includes('watch'))")
    (row,) = await tab.evaluate(texts("sessions"))
    assert {"watch", "team-a/k8s", "web", "watch pods"} <= set(row.split("\t"))
    stream.close()
    await wait_for(tab, f"{texts('sessions')}.length == 0")
    await sessions_proxy.connect(f"127.0.0.1:{target.port}", f"team-a/other:{sessions_proxy.token('team-a/k8s')}")
    await wait_for(tab, f"{texts('refusals')}.join().includes('not found in namespace')")
    assert "everything that the credential can do" in str(await tab.evaluate(texts("connectors")))
    assert await tab.evaluate("window.violations") == []
    await tab.open(reader.url)
    await wait_for(tab, "document.getElementById('state').textContent == 'connected'")


async def test_hostile_names_are_text(sessions_proxy: Proxy, target: FakeTarget, reader: Reader, tab: Tab) -> None:
    serving(target, SWITCH)
    path = f"/api/v1/namespaces/{HOSTILE}/pods/{HOSTILE}{'x' * 8000}/exec?command={HOSTILE}"
    stream = await send_request(
        sessions_proxy, target, EXEC.replace(b"/api/v1/namespaces/a/pods/b/exec", path.encode())
    )
    await stream.read_head()
    await tab.open(reader.full_url)
    await wait_for(tab, f"{texts('sessions')}.length == 1")
    (row,) = await tab.evaluate(texts("sessions"))
    assert '<img src=x onerror="window.hit=1">\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[2J' in row
    assert await tab.evaluate("document.images.length + (window.hit ?? 0)") == 0
    cells = "document.querySelectorAll('#sessions-rows td')"
    assert await tab.evaluate(
        f"[...{cells}].every(each => each.children.length == 1 && each.firstChild.tagName == 'BDI')"
    )
    assert await tab.evaluate("window.violations") == []
    script = "try { document.body.innerHTML = '<b>x</b>'; 'set' } catch (error) { error.name }"
    assert await tab.evaluate(script) == "TypeError", "Trusted Types stop innerHTML"


async def test_without_the_secret_the_page_says_what_to_do(reader: Reader, tab: Tab) -> None:
    await tab.open(reader.url)
    await wait_for(tab, "document.getElementById('state').textContent.includes('open the URL that the proxy printed')")


async def test_a_page_of_another_origin_gets_nothing(reader: Reader, tab: Tab) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>x</title>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/", page)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await tab.open(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    url, secret = json.dumps(f"{reader.url}sessions"), json.dumps(f"Bearer {reader.secret}")
    for options in ("{}", "{mode: 'no-cors'}", f"{{headers: {{Authorization: {secret}}}}}"):
        script = f"fetch({url}, {options}).then(r => r.text(), () => '').then(text => text.includes('items'))"
        assert await tab.evaluate(script) is False
    script = (
        "new Promise(end => { const frame = document.createElement('iframe'); frame.onload = () => end(frame"
        f".contentDocument === null); frame.src = {json.dumps(reader.url)}; document.body.append(frame) }})"
    )
    assert await tab.evaluate(script) is True
    await runner.cleanup()


async def test_the_page_fits_a_phone_and_names_its_tables(
    sessions_proxy: Proxy, target: FakeTarget, reader: Reader, tab: Tab
) -> None:
    serving(target, WATCH)
    line = b"GET /api/v1/namespaces/web/pods?watch=1 HTTP/1.1\r\nHost: HOST\r\n\r\n"
    stream = await send_request(sessions_proxy, target, line)
    await stream.reader.readuntil(b"}\n\r\n")
    await tab.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    await tab.open(reader.full_url)
    await wait_for(tab, f"{texts('sessions')}.length == 1")
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
    nodes: list[dict[str, Any]] = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
    names = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if "role" in node]
    assert ("table", "Live connections, the oldest first") in names
    assert ("columnheader", "Caller") in names
    assert ("heading", "Connectors 1") in names
    assert [name for role, name in names if role == "status"] != []
    await tab.evaluate("document.body.focus()")
    await tab.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert await tab.evaluate("document.activeElement.className") == "skip"
