"""scripts/repository.py, on a copy of the files with the address."""

import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.release import script_copy

pytestmark = pytest.mark.slow

SCRIPT, PROJECT, CHART = "scripts/repository.py", "pyproject.toml", "charts/kubernetes-connector/Chart.yaml"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return script_copy.copy_files([SCRIPT, "scripts/usage.py", PROJECT, CHART], tmp_path)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return script_copy.run(root / SCRIPT, *arguments)


def test_the_address_is_written_into_both_and_printed(copy: Path) -> None:
    assert run(copy, "https://git.example/team/connector").returncode == 0
    project = tomllib.loads((copy / PROJECT).read_text())
    chart = yaml.safe_load((copy / CHART).read_text())
    assert project["project"]["urls"] == {"Repository": "https://git.example/team/connector"}
    assert (chart["home"], chart["sources"]) == (
        "https://git.example/team/connector",
        ["https://git.example/team/connector"],
    )
    assert run(copy).stdout == "https://git.example/team/connector\n"


def test_another_address_replaces_the_first_and_nothing_else(copy: Path) -> None:
    run(copy, "https://git.example/team/connector")
    first = [(copy / file).read_text() for file in [PROJECT, CHART]]
    run(copy, "https://other.example/moved")
    assert run(copy).stdout == "https://other.example/moved\n"
    run(copy, "https://git.example/team/connector")
    assert [(copy / file).read_text() for file in [PROJECT, CHART]] == first


def test_the_error_for_a_missing_address_has_the_next_step(copy: Path) -> None:
    (copy / PROJECT).write_text('[project]\nname = "without"\n')
    done = run(copy)
    assert done.returncode == 1
    assert done.stderr == "error: pyproject.toml: project.urls has no Repository; scripts/repository.py URL writes it\n"


def test_special_characters_of_yaml_are_part_of_the_address(copy: Path) -> None:
    url = "https://git.example/a,b]#c"
    assert run(copy, url).returncode == 0
    chart = yaml.safe_load((copy / CHART).read_text())
    assert (chart["home"], chart["sources"], run(copy).stdout) == (url, [url], f"{url}\n")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://git.example/x", id="no TLS"),
        pytest.param("git.example/x", id="no scheme"),
        pytest.param("https:///x", id="no host"),
        pytest.param("https://user@git.example/x", id="a user name"),
        pytest.param('https://git.example/"x', id="a quote"),
        pytest.param("https://git.example/x\x01", id="a control character"),
    ],
)
def test_an_address_that_is_not_public_is_refused_and_not_written(copy: Path, url: str) -> None:
    before = [(copy / file).read_text() for file in [PROJECT, CHART]]
    done = run(copy, url)
    assert (done.returncode, done.stderr) == (1, f"error: {url} is not https://HOST/PATH\n")
    assert [(copy / file).read_text() for file in [PROJECT, CHART]] == before
