import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from addons.server import options
from connector_store.domain.config.settings import SETTINGS, option_name
from connector_store.version import VERSION
from image.entry import DEFAULT_OPTIONS, HOME, STATE_FOLDER, command

PROGRAMS = Path("/programs")
SERVICE = ["/programs/python", "-m", "addons"]
DUMP = ["/programs/mitmdump"]


def addon(**changed: str | None) -> list[str]:
    """Return the arguments that the entry adds, with changes. None leaves an option out."""
    options = {"confdir": str(STATE_FOLDER), **DEFAULT_OPTIONS} | changed
    set_arguments = [
        part for name, value in options.items() if value is not None for part in ("--set", f"{name}={value}")
    ]
    return ["-s", f"{HOME}/addons/connector.py", *set_arguments]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["proxy"], [*SERVICE, *addon()], id="the proxy is mitmproxy as a service, with the addon"),
        pytest.param(
            ["proxy", "--set", "connector_recheck=5"],
            [*SERVICE, *addon(), "--set", "connector_recheck=5"],
            id="further arguments are mitmproxy's, after ours",
        ),
        pytest.param(
            ["proxy", "--set=connector_admin=", "--set", "connector_source=/x"],
            [
                *(*SERVICE, *addon(connector_admin=None, connector_source=None)),
                *("--set=connector_admin=", "--set", "connector_source=/x"),
            ],
            id="what is set by arguments is not set by us, as mitmproxy takes each once",
        ),
        pytest.param(
            ["proxy", "-v", "-p", "81", "--listen-host=::1", "--mode=regular"],
            [*SERVICE, *addon(), "-v", "-p", "81", "--listen-host=::1", "--mode=regular"],
            id="where it listens and what it says is a service's too",
        ),
        pytest.param(
            ["proxy", "--set", "confdir=/x"],
            [*SERVICE, *addon(confdir=None), "--set", "confdir=/x"],
            id="and where it keeps things",
        ),
        pytest.param(["proxy", "-w", "flows"], [*DUMP, *addon(), "-w", "flows"], id="who saves flows"),
        pytest.param(
            ["proxy", "--set", "hardump=x"], [*DUMP, *addon(), "--set", "hardump=x"], id="an option of another addon"
        ),
        pytest.param(
            ["proxy", "--set=connector_flows=on"],
            [*DUMP, *addon(), "--set=connector_flows=on"],
            id="who wants to see flows",
        ),
        pytest.param(["proxy", "--set"], [*DUMP, *addon(), "--set"], id="a value that is missing"),
        pytest.param(["controller"], ["/programs/python", "-m", "connector_controller"], id="the controller"),
        pytest.param(
            ["csi", "--admin=h:1"], ["/programs/python", "-m", "connector_csi", "--admin=h:1"], id="the driver"
        ),
        pytest.param([], None, id="no argument"),
        pytest.param(["sh"], None, id="a shell"),
    ],
)
def test_the_first_argument_chooses_the_program(arguments: list[str], expected: list[str] | None) -> None:
    assert command(arguments, programs=PROGRAMS) == expected


@pytest.mark.slow
def test_another_argument_is_a_usage_error() -> None:
    result = subprocess.run(
        [sys.executable, str(HOME / "image" / "entry.py"), "sh"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONSAFEPATH": "1"},
        check=False,
    )
    assert result.returncode == 2
    assert "proxy | controller | csi" in result.stderr


ALONE = {"PYTHONPATH": str(HOME), "PYTHONSAFEPATH": "1"}
"""Environment with the entry alone. In the image, its own folder is not on the import path."""


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--version"], ["proxy", "--version"], ["csi", "--version"]], ids=" ".join)
def test_version_prints_the_products_version(arguments: list[str]) -> None:
    entry = [sys.executable, str(HOME / "image" / "entry.py"), *arguments]
    result = subprocess.run(entry, capture_output=True, text=True, env=ALONE, check=True)
    assert result.stdout == f"kubernetes-connector {VERSION}\n"


@pytest.mark.slow
@pytest.mark.parametrize("component", ["controller", "csi"])
def test_the_entry_becomes_the_program_and_removes_the_key_log(component: str, tmp_path: Path) -> None:
    """The program is next to the interpreter. This one prints its arguments and environment."""
    starter, program = tmp_path / "starter", tmp_path / "python"
    starter.symlink_to(sys.executable)
    program.write_text('#!/bin/sh\necho $$ "$@" ${SSLKEYLOGFILE-none} $OTHER\n')
    program.chmod(0o755)
    with subprocess.Popen(
        [starter, HOME / "image" / "entry.py", component, "--an=argument"],
        stdout=subprocess.PIPE,
        text=True,
        env=ALONE | {"SSLKEYLOGFILE": str(tmp_path / "keys"), "OTHER": "kept"},
    ) as start_proxy:
        output, _ = start_proxy.communicate(timeout=180)
    assert output == f"{start_proxy.pid} -m connector_{component} --an=argument none kept\n"
    assert start_proxy.returncode == 0


def test_the_image_sets_only_connector_options_and_the_port() -> None:
    option_names = {each[0] for each in options._OPTIONS} | {option_name(key) for key in SETTINGS} | {"listen_port"}
    assert DEFAULT_OPTIONS.keys() <= option_names


def test_the_addon_that_the_entry_names_is_there() -> None:
    assert (HOME / "addons" / "connector.py").is_file()


def test_the_image_holds_every_package_and_the_command_line() -> None:
    packages = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    dockerfile, context = (HOME / "Dockerfile").read_text(), (HOME / ".dockerignore").read_text().splitlines()
    for name in (each.rstrip("*") for each in packages):
        assert f"COPY {name}/ {name}/\n" in dockerfile
        assert f"!{name}" in context
    assert "for name in connectorctl kubectl-connector" in dockerfile


IN_A_CONTAINER = """
mount -t tmpfs none /var/lib
{state}
exec {python} {entry} proxy --set connector_admin=banana
"""


def start_proxy(state: str) -> subprocess.CompletedProcess[str]:
    """Start the proxy in a mount namespace after the script `state`, with an option that makes the start fail."""
    script = IN_A_CONTAINER.format(state=state, python=sys.executable, entry=HOME / "image" / "entry.py")
    return subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", script],
        capture_output=True,
        text=True,
        env=ALONE | {"PATH": os.environ["PATH"]},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("state", ["true", f"touch {STATE_FOLDER}"], ids=["not there", "no folder"])
def test_a_folder_for_its_state_that_cannot_be_written_is_one_line(state: str) -> None:
    result = start_proxy(state)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {STATE_FOLDER} cannot be written: ")
    assert result.stderr.endswith("; mount a volume there that may be\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_an_argument_wins_over_what_an_older_release_left_in_its_state() -> None:
    result = start_proxy(f"mkdir {STATE_FOLDER}; echo 'connector_admin: \"[::]:9091\"' >{STATE_FOLDER}/config.yaml")
    assert result.returncode == 1
    assert result.stderr.startswith("error: connector_admin: "), result.stderr
