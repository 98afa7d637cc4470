"""axe finds no barrier on the sessions page, in both themes, on a wide screen and on a phone."""

import os
from pathlib import Path

import pytest

from addons.sessions.server import SessionsServer
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import InvalidConnector
from lab.client_programs import AXE, ensure_clients
from lab.go_modules import ProgramsMissingError
from tests.addons.records.test_recent_use import record
from tests.addons.sessions.test_page import texts, wait_for
from tests.addons.sessions.test_state import CONNECTOR, World, add_connections
from tests.fakes.chromium import browser_tab

RUN = (
    "axe.run().then(result => ({passes: result.passes.map(rule => rule.id), violations: result.violations.map(rule => "
    "`${rule.id}: ${rule.nodes.map(node => `${node.target} ${node.failureSummary}`).join('; ')}`)}))"
)
EXPECTED_PASSES = {"color-contrast", "aria-roles", "region", "document-title", "html-has-lang", "heading-order"}


@pytest.fixture(scope="session")
def axe_script() -> str:
    """Source of axe-core, which scripts/clients/axe pins."""
    try:
        return (ensure_clients(AXE) / "node_modules" / "axe-core" / "axe.min.js").read_text()
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def world() -> World:
    """Live connections, refusals, and Connectors that are usable and not usable."""
    world = World()
    broken = InvalidConnector(
        key=ObjectKey("team-b", "edge"), class_name="k8s", reason="InvalidSpec", message="spec.address: is not a URL"
    )
    world.replace("connectors", CONNECTOR, broken)
    add_connections(world, 3)
    world.recent_use.record(record())
    world.recent_use.record(record(status=403, cause="not_allowed", message="pods is forbidden"))
    return world


async def test_axe_finds_nothing(axe_script: str, world: World, tmp_path: Path) -> None:
    server = SessionsServer(world.state(), secret=None)
    _, port = await server.start("127.0.0.1", 0)
    try:
        async with browser_tab(tmp_path / "profile", ("", "")) as tab:
            # axe is a script of another origin for the policy of the page.
            await tab.call("Page.setBypassCSP", enabled=True)
            for theme in ("light", "dark"):
                for width in (1280, 360):
                    await tab.call(
                        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}]
                    )
                    await tab.call(
                        "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
                    )
                    await tab.open(f"http://127.0.0.1:{port}/")
                    await wait_for(tab, f"{texts('sessions')}.length == 3 && {texts('connectors')}.length == 2")
                    await tab.evaluate(f"{axe_script};0")
                    result = await tab.evaluate(RUN)
                    assert result["violations"] == [], (theme, width)
                    assert set(result["passes"]) >= EXPECTED_PASSES
    finally:
        await server.stop()
