"""A login that a browser stores, in a real Chromium: pages of the same origin can use it, other pages cannot."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from addons.records.record import Record
from tests.fakes.chromium import Tab, browser_tab
from tests.fakes.proxy import Proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

KEY = "team-a/k8s"
PATH = f"/connectors/{KEY}/api"
ATTACKS = {
    "fetch": "fetch(URL, {mode: 'no-cors', credentials: 'include'}).catch(() => 0)",
    "post": "fetch(URL, {method: 'POST', body: 'x', mode: 'no-cors', credentials: 'include'}).catch(() => 0)",
    "image": "new Promise(end => { let i = new Image(); i.onload = i.onerror = () => end(0); i.src = URL })",
    "frame": "new Promise(end => { let f = document.createElement('iframe'); f.onload = () => end(0); f.src = URL;"
    " document.body.append(f) })",
    "socket": "new Promise(end => { let s = new WebSocket(URL.replace('http', 'ws')); s.onopen = s.onerror ="
    " () => end(0) })",
}


@pytest.fixture(params=["localhost", "127.0.0.1"], ids=["another site", "another port"])
async def other_origin(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Serve empty pages of another origin than that of the proxy."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>x</title><body></body>", content_type="text/html")

    application = web.Application()
    application.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, request.param, 0).start()
    yield f"http://{request.param}:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def test_only_pages_of_the_same_origin_use_a_stored_login(
    proxy: Proxy, target: FakeTarget, other_origin: str, records: list[Record], tmp_path: Path
) -> None:
    home, token = f"http://127.0.0.1:{proxy.port}", proxy.token(KEY)
    async with browser_tab(tmp_path / "profile", (KEY, token)) as tab:
        await tab.open(f"{home}/kubeconfig")
        await tab.open(home + PATH)
        assert await tab.evaluate(f"fetch('{PATH}').then(r => r.status)") == 200
        bearer = f"fetch('{PATH}', {{headers: {{Authorization: 'Bearer {token}'}}}}).then(r => r.status)"
        assert await tab.evaluate(bearer) == 200
        assert tab.login_count == 1, "the browser stores the login for the whole origin"
        request_count = target.received.count(b"HTTP/1.1\r\n")
        assert request_count == 3
        records.clear()
        await attack(tab, other_origin, home + PATH)
        await until(lambda: len(refusals(records)) == len(ATTACKS) + 1)
        assert target.received.count(b"HTTP/1.1\r\n") == request_count
    causes = refusals(records)
    # Chromium keeps the login from parts of a page of another site, but not from a link.
    is_same_site = "127.0.0.1" in other_origin
    assert causes.pop("link") == "cross_site"
    assert set(causes.values()) == {"cross_site" if is_same_site else "credentials"}


async def attack(tab: Tab, origin: str, url: str) -> None:
    """Make a page of another origin send each kind of request, and follow a link at last."""
    await tab.open(origin)
    for name, script in ATTACKS.items():
        await tab.evaluate(script.replace("URL", f"'{url}?{name}'"))
    # The page may be gone before the browser answers.
    await tab.call("Runtime.evaluate", expression=f"void (location.href = '{url}?link')")


def refusals(records: list[Record]) -> dict[str, str]:
    """Return the causes of refusals by the kind of request."""
    return {record.target.rpartition("?")[2]: record.cause for record in records if "?" in record.target}
