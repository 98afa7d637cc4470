"""Commands of the pages can be typed as they stand; tests/journey runs those of a whole installation."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from connectorctl.example import MANIFESTS
from tests.docs.pages import DOCS, ROOT
from tests.journey.documents import shell_blocks

README = ROOT / "README.md"
EXECUTED = ("quickstart.md", "helm.md", "kind.md", "install.md", "uninstall.md")
"""Pages whose blocks tests/journey runs. Of kind.md, it runs none of Docker and kind."""
OF_THE_USER = {"kubectl", "export", "ssh", "mkdir", "printf", "echo", "print"}


def indented(page: Path) -> list[str]:
    return [line.strip() for line in re.findall(r"^ {4}(\S.*)$", page.read_text(), re.MULTILINE)]


def typed(page: Path) -> list[str]:
    """The lines of its blocks of shell, and of indented ones."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [*indented(page), *(line.strip() for block in blocks for line in block.splitlines())]


def test_the_readme_promises_two_commands_that_are_there() -> None:
    text = README.read_text().partition("## Try it without a cluster\n")[2].partition("\n## ")[0]
    commands = [line.split()[0] for line in text.splitlines() if line.startswith("    ")]
    assert commands == ["scripts/demo", "scripts/test"]
    assert [each for each in commands if not os.access(ROOT / each, os.X_OK)] == []


def test_the_readme_asks_for_a_go_that_builds_all_programs() -> None:
    needed = {
        tuple(map(int, re.findall(r"^go ([\d.]+)$", each.read_text(), re.MULTILINE)[0].split(".")))
        for each in (ROOT / "scripts" / "go").glob("*/go.mod")
    }
    [version] = re.findall(r"Go ([\d.]+) or newer", README.read_text())
    assert tuple(map(int, version.split("."))) >= max(needed)


@pytest.mark.parametrize("page", [README, DOCS / "watching.md"], ids=["README", "watching"])
def test_every_program_of_a_page_is_where_the_readme_says(page: Path) -> None:
    programs = {line.split()[0] for line in typed(page) if re.match(r"[a-z]+ |scripts/", line)} - OF_THE_USER
    assert "connectorctl" in programs
    for program in programs:
        path = ROOT / program if program.startswith("scripts/") else Path(sys.executable).with_name(program)
        assert os.access(path, os.X_OK), program


def test_the_connector_of_a_page_is_the_one_that_init_writes() -> None:
    [shown] = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / "outside.md").read_text(), re.DOTALL | re.MULTILINE)
    assert list(yaml.safe_load_all(shown)) == list(yaml.safe_load_all(MANIFESTS))


@pytest.mark.slow
def test_files_that_the_readme_creates_are_ignored_by_git(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    files = ["team.kubeconfig", "context.token", "connectors/my-cluster.yaml"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True, timeout=180)
    ignored = subprocess.run(
        ["git", "-C", tmp_path, "check-ignore", *files], capture_output=True, text=True, timeout=180, check=False
    )
    assert ignored.stdout.split() == files


@pytest.mark.parametrize("page", EXECUTED)
def test_no_block_of_an_executed_page_escapes(page: str) -> None:
    fences = re.findall(r"^ *(?:```|~~~)(.*)$", (DOCS / page).read_text(), re.MULTILINE)
    assert fences == ["sh", ""] * len(shell_blocks(page))


def test_the_commands_that_need_kind_are_known_and_load_the_image_that_is_installed() -> None:
    create, install, *_, remove = shell_blocks("kind.md")
    lines = [shlex.split(line) for line in create.splitlines()]
    assert [line[:2] for line in lines] == [["kind", "create"], ["docker", "build"], ["kind", "load"]]
    built, loaded = lines[1][3], lines[2][3]
    repository, _, tag = built.rpartition(":")
    assert built == loaded
    assert {f"image.repository={repository}", f"image.tag={tag}"} <= set(shlex.split(install))
    clusters = {line[line.index("--name") + 1] for line in [lines[0], lines[2], shlex.split(remove)]}
    assert clusters == {"connectors"}
    assert shlex.split(remove)[:3] == ["kind", "delete", "cluster"]
