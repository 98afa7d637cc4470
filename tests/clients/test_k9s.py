"""k9s, unchanged, with the kubeconfig of an agent: it shows Secrets without their values."""

import os
from pathlib import Path

import pytest

from lab.go_modules import ProgramsMissingError
from lab.programs import K9S, ensure_programs
from tests.clients.agent import NAME, Agent
from tests.fakes.terminal import Terminal

ESCAPE = "\x1b"
CTRL_C = "\x03"
CONFIGURATION = "k9s: {skipLatestRevCheck: true, ui: {noIcons: true}}"


@pytest.fixture(scope="session")
def k9s_program() -> Path:
    try:
        return ensure_programs(K9S, ["k9s"]) / "k9s"
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.mark.timeout(1800)
def test_k9s_shows_secrets_without_their_values(agent: Agent, k9s_program: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIGURATION)
    options = ("--readonly", "--logoless", "--crumbsless", "--splashless", "--namespace", agent.namespace)
    environment = agent.environment(tmp_path) | {"K9S_CONFIG_DIR": str(tmp_path), "K9S_LOGS_DIR": str(tmp_path)}
    with Terminal([str(k9s_program), *options, "--command", "configmaps"], environment) as k9s:
        k9s.wait_for("settings")
        k9s.type("y", "color: teal")
        k9s.type(ESCAPE, "AGE")
        k9s.type(":secrets\r", NAME, "Opaque")
        k9s.type("y", f"{agent.namespace}/{NAME}", "password: bWFza2Vk")
        k9s.type(ESCAPE, "AGE")
        k9s.type("d", "Describe", "password:  6 bytes")
        k9s.type(ESCAPE, "AGE")
        k9s.type("x", "Secret Decoder", "password: masked")
        k9s.type(CTRL_C)
        k9s.wait_for_end()
    agent.assert_no_value("\n".join(k9s.screen.drawn))
    for file in tmp_path.rglob("*"):
        if file.is_file():
            agent.assert_no_value(file.read_text(errors="replace"))
