import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from addons.server import options
from connector_store.domain.settings import KEYS, option_name
from connector_store.version import VERSION
from image.entry import CONFIGURATION, HOME, STATE, command

PROGRAMS = Path("/programs")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            ["proxy"],
            ["/programs/mitmdump", "--set", f"confdir={STATE}", "-s", f"{HOME}/addons/connector.py"],
            id="the proxy is mitmdump with the addon",
        ),
        pytest.param(
            ["proxy", "--set", "connector_recheck=5"],
            [
                *("/programs/mitmdump", "--set", f"confdir={STATE}", "-s", f"{HOME}/addons/connector.py"),
                *("--set", "connector_recheck=5"),
            ],
            id="further arguments are mitmdump's, after ours",
        ),
        pytest.param(["controller"], ["/programs/python", "-m", "connector_controller"], id="the controller"),
        pytest.param(
            ["csi", "--admin=h:1"], ["/programs/python", "-m", "connector_csi", "--admin=h:1"], id="the driver"
        ),
        pytest.param([], None, id="nothing is no door"),
        pytest.param(["sh"], None, id="a shell is no door"),
    ],
)
def test_the_first_argument_chooses_the_program(arguments: list[str], expected: list[str] | None) -> None:
    assert command(arguments, programs=PROGRAMS) == expected


def test_another_argument_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, str(HOME / "image" / "entry.py"), "sh"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
        check=False,
    )
    assert done.returncode == 2
    assert "proxy | controller | csi" in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["proxy", "--version"], ["csi", "--version"]], ids=" ".join)
def test_it_says_the_products_version(arguments: list[str]) -> None:
    entry = [sys.executable, str(HOME / "image" / "entry.py"), *arguments]
    done = subprocess.run(entry, capture_output=True, text=True, env={"PYTHONSAFEPATH": "1"}, check=True)
    assert done.stdout == f"kubernetes-connector {VERSION}\n"


@pytest.mark.parametrize("door", ["controller", "csi"])
def test_it_becomes_the_door_and_takes_no_key_log_along(door: str, tmp_path: Path) -> None:
    """Beside the interpreter that runs it lies the program; this one says with what it was started."""
    starter, program = tmp_path / "starter", tmp_path / "python"
    starter.symlink_to(sys.executable)
    program.write_text('#!/bin/sh\necho $$ "$@" ${SSLKEYLOGFILE-none} $OTHER\n')
    program.chmod(0o755)
    with subprocess.Popen(
        [starter, HOME / "image" / "entry.py", door, "--an=argument"],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONSAFEPATH": "1", "SSLKEYLOGFILE": str(tmp_path / "keys"), "OTHER": "kept"},
    ) as started:
        said, _ = started.communicate(timeout=60)
    assert said == f"{started.pid} -m connector_{door} --an=argument none kept\n"
    assert started.returncode == 0


def test_the_image_sets_only_options_of_ours_and_the_port() -> None:
    known = {each[0] for each in options._OWN} | {option_name(key) for key in KEYS} | {"listen_port"}
    assert set(yaml.safe_load(CONFIGURATION.read_text())) <= known


def test_the_addon_that_the_entry_names_is_there() -> None:
    assert (HOME / "addons" / "connector.py").is_file()


def test_the_image_holds_every_package_and_the_command_line() -> None:
    packages = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    dockerfile, context = (HOME / "Dockerfile").read_text(), (HOME / ".dockerignore").read_text().splitlines()
    for name in (each.rstrip("*") for each in packages):
        assert f"COPY {name}/ {name}/\n" in dockerfile
        assert f"!{name}" in context
    assert "for name in connectorctl kubectl-connector" in dockerfile
