"""Screenshot of mitmweb with a real kubectl session, for docs/watching.md.

.venv/bin/python -m tests.cluster.proxy.screenshot docs/images/mitmweb.png
"""

import asyncio
import base64
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from connector_store.domain.base.names import ObjectKey
from connector_store.folder.signing_key import SigningKey
from connectorctl.proxy_program import PROGRAM_OPTIONS
from lab.control_plane import ControlPlane
from lab.ports import Port
from tests.addons.sessions.test_page import wait_for
from tests.cluster.proxy.proxied_connector import manifests, target_token
from tests.cluster.proxy.running_proxy import AUDIENCE, RunningProxy
from tests.fakes.chromium import browser_tab

KEY = ObjectKey("team-a", "prod")
NAMESPACE = "web"
PASSWORD = "of the page"
WIDTH, HEIGHT = 1280, 480


def run_session(plane: ControlPlane, proxy: RunningProxy) -> None:
    """Run commands of kubectl, of which the target refuses one, and the proxy another."""
    connector, secret = manifests(plane, target_token(plane, NAMESPACE), name=KEY.name)
    proxy.write("k8s.yaml", connector, secret)
    key = SigningKey.load_or_create(proxy.confdir)
    token = key.issue(KEY, ttl=3600, now=time.time(), audience=AUDIENCE, caller="ci:build")
    kubectl = proxy.kubectl(plane.kubectl, connector, token=token)
    kubectl("auth", "whoami")
    kubectl("create", "configmap", "settings", "--from-literal=log=info", namespace=NAMESPACE)
    kubectl("get", "configmap", "settings", "-o", "yaml", namespace=NAMESPACE)
    kubectl.run("get", "nodes")
    kubectl("delete", "configmap", "settings", namespace=NAMESPACE)
    proxy.kubectl(plane.kubectl, connector, token="an-old-token").run("get", "pods", namespace=NAMESPACE)


async def take(port: int, profile: Path) -> bytes:
    async with browser_tab(profile, ("", "")) as tab:
        await tab.call(
            "Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False
        )
        await tab.open(f"http://127.0.0.1:{port}/?token={quote(PASSWORD)}")
        await wait_for(tab, "document.querySelectorAll('.flow-table td.col-comment').length > 6")
        shot = await tab.call("Page.captureScreenshot", format="png")
    return base64.b64decode(shot["data"])


def main(picture: Path, work: Path) -> None:
    web = Port()
    columns = [part for option in PROGRAM_OPTIONS["mitmweb"] for part in ("--set", option)]
    options = {"web_port": str(web.number), "web_open_browser": "false", "web_password": PASSWORD}
    proxy = RunningProxy(work / "proxy", program="mitmweb", options=options, arguments=columns)
    with ControlPlane(work / "plane") as plane, proxy:
        plane.create_namespace(NAMESPACE)
        run_session(plane, proxy)
        picture.write_bytes(asyncio.run(take(web.number, work / "profile")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]), Path(temporary))
