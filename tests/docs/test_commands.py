"""Commands of the pages can be typed as they stand; tests/journey runs those of a whole installation."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lab.ports import Port
from lab.process import Process
from tests.docs.pages import DOCS, ROOT
from tests.journey.documents import shell_blocks

README = ROOT / "README.md"
EXECUTED = ("quickstart.md", "helm.md", "install.md", "uninstall.md")
"""Pages whose blocks tests/journey runs."""
OF_THE_USER = {"kubectl", "export"}
START_TIMEOUT = 60.0


def indented(page: Path) -> list[str]:
    return [line.strip() for line in re.findall(r"^ {4}(\S.*)$", page.read_text(), re.MULTILINE)]


def the_line(start: str) -> str:
    [found] = [each for each in indented(README) if each.startswith(start)]
    return found


def in_path(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a shell where the README's line about PATH was typed, in the repository."""
    script = f"cd {shlex.quote(str(ROOT))}; {the_line('export PATH=')}; cd - >/dev/null; {command}"
    return subprocess.run(
        ["sh", "-euc", script], capture_output=True, text=True, env=os.environ | environment, timeout=60
    )


def test_the_readme_promises_two_commands_that_are_there() -> None:
    text = README.read_text().partition("## Try it\n")[2].partition("\n## ")[0]
    commands = [line.split()[0] for line in text.splitlines() if line.startswith("    ")]
    assert commands == ["scripts/demo", "scripts/test"]
    assert [each for each in commands if not os.access(ROOT / each, os.X_OK)] == []


def test_the_readme_asks_for_a_go_that_builds_all_programs() -> None:
    needed = {
        tuple(map(int, re.findall(r"^go ([\d.]+)$", each.read_text(), re.MULTILINE)[0].split(".")))
        for each in (ROOT / "scripts" / "go").glob("*/go.mod")
    }
    assert f"Go {'.'.join(map(str, max(needed)))} or newer" in README.read_text()


@pytest.mark.parametrize("page", [README, DOCS / "watching.md"], ids=["README", "watching"])
def test_every_program_of_a_page_is_where_the_readme_says(page: Path) -> None:
    programs = {line.split()[0] for line in indented(page) if re.match(r"[a-z/]+ |scripts/", line)} - OF_THE_USER
    assert programs & {"mitmdump", "mitmweb"}
    for program in programs:
        if program.startswith("scripts/"):
            assert os.access(ROOT / program, os.X_OK)
        else:
            assert in_path(f"command -v {program}").stdout.strip() == str(Path(sys.executable).with_name(program))


@pytest.mark.parametrize("page", EXECUTED)
def test_no_block_of_an_executed_page_escapes(page: str) -> None:
    fences = re.findall(r"^ *(?:```|~~~)(.*)$", (DOCS / page).read_text(), re.MULTILINE)
    assert fences == ["sh", ""] * len(shell_blocks(page))


@pytest.mark.slow
def test_the_readmes_folder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "addons").symlink_to(ROOT / "addons")
    (tmp_path / "connectors").mkdir(mode=0o700)
    [manifests] = re.findall(r"^```yaml\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "connectors" / "team.yaml").write_text(manifests)
    (tmp_path / "connectors" / "team.yaml").chmod(0o600)
    home = {"HOME": str(tmp_path)}
    program, *arguments = shlex.split(the_line("mitmdump "))
    ports = ["--listen-host", "127.0.0.1", "--listen-port", str(Port().number), "--set", "connector_admin="]
    proxy = Process(
        [Path(sys.executable).with_name(program), *arguments, *ports],
        log=tmp_path / "proxy.log",
        environment=os.environ | home,
    )
    proxy.start()
    try:
        proxy.wait_until((tmp_path / ".mitmproxy" / "mitmproxy-ca-cert.pem").is_file, timeout=START_TIMEOUT)
        for command in ("connectorctl check ", "connectorctl kubeconfig "):
            done = in_path(the_line(command), **home)
            assert done.returncode == 0, done.stdout + done.stderr
    finally:
        proxy.stop()
    assert "default%2Fteam-cluster" in (tmp_path / "team.kubeconfig").read_text()
    assert the_line("kubectl ").split()[2] == "team.kubeconfig"
