"""Screenshots of the sessions page in both themes, from real connections through a real proxy.

.venv/bin/python -m tests.addons.sessions.screenshots docs/images
"""

import asyncio
import base64
import sys
import tempfile
from pathlib import Path

from connector_store.sessions_file import read_urls
from lab.certificates import make_ca, make_leaf
from tests.addons.test_close_reasons import EXEC, SWITCH, WATCH, send_request
from tests.fakes.chromium import browser_tab
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

WIDTH, HEIGHT = 1280, 860
SETTLE = 2.0
"""Seconds in which bytes and ages become different from 0."""


async def serve(connection: TargetConnection) -> None:
    head = await connection.read_head()
    await connection.send(SWITCH if b"/exec" in head else WATCH)
    while await connection.read_some():
        pass


async def take(folder: Path, work: Path) -> None:
    ca = make_ca("target CA")
    (manifests := work / "connectors").mkdir()
    async with FakeTarget(make_leaf(ca, ["127.0.0.1"]), serve) as target:
        address = f"https://127.0.0.1:{target.port}"
        broken = connector("edge", "https://edge.example:6443", namespace="team-b", secret="missing")
        write(manifests, connector("k8s", address), secret(ca=ca.pem), broken)
        async with running_proxy(manifests, work / "confdir", connector_sessions="auto") as proxy:
            await until(lambda: read_urls(work / "confdir"))
            shell = EXEC.replace(
                b"namespaces/a/pods/b/exec", b"namespaces/web/pods/api-0/exec?command=sh&command=-c&command=df+-h"
            )
            watch = b"GET /api/v1/namespaces/web/pods?watch=1 HTTP/1.1\r\nHost: HOST\r\n\r\n"
            for line in (watch, shell, watch.replace(b"pods", b"configmaps")):
                await send_request(proxy, target, line)
            authority = f"127.0.0.1:{target.port}"
            await proxy.connect(authority, f"team-b/edge:{proxy.token('team-b/edge')}")
            await proxy.connect(authority, f"team-a/prod:{proxy.token('team-a/k8s')}")
            await proxy.connect(authority, "team-a/k8s:an-old-token")
            async with browser_tab(work / "profile", ("", "")) as tab:
                await tab.call(
                    "Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False
                )
                for theme in ("light", "dark"):
                    feature = {"name": "prefers-color-scheme", "value": theme}
                    await tab.call("Emulation.setEmulatedMedia", features=[feature])
                    await tab.open("about:blank")
                    await tab.open(read_urls(work / "confdir")[0])
                    await asyncio.sleep(SETTLE)
                    shot = await tab.call("Page.captureScreenshot", format="png")
                    (folder / f"sessions-{theme}.png").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(take(Path(sys.argv[1]), Path(temporary)))
