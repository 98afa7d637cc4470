"""`connectorctl proxy`: the proxy on a folder, started from anywhere. It becomes mitmproxy with the addons."""

import errno
import importlib.util
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.source import DEFAULT_FOLDER, FolderSource, parse_source
from connectorctl.command import command as make
from connectorctl.options import confdir_option
from connectorctl.proxy_ca import CA_FILE, confdir_or_default

PROGRAMS: Final = ("mitmdump", "mitmweb", "mitmproxy")
_TAKEN: Final = (errno.EADDRINUSE, errno.EACCES)
_ADDONS: Final = "addons.connector"


@make(
    "proxy",
    examples=(
        "connectorctl proxy",
        "connectorctl proxy ./team-a --listen 127.0.0.1:8082",
        "connectorctl proxy --in mitmweb",
        "connectorctl proxy ./team-a -- --set connector_recheck=5",
    ),
)
@click.argument("arguments", metavar="[DIR] [-- ARGUMENT...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8080", show_default=True, help="Where clients come.")
@click.option("--in", "program", type=click.Choice(PROGRAMS), default="mitmdump", show_default=True,
              help="mitmweb and mitmproxy show the traffic.")  # fmt: skip
@confdir_option
def command(arguments: tuple[str, ...], listen: str, program: str, confdir: Path | None) -> None:
    """Start the proxy on a folder of manifests, ./connectors by default.

    It stays until it is stopped. What follows -- is for mitmproxy. DIR may be any connector_source: kubernetes too.
    """
    source, rest = _split(arguments)
    found = parse_source(source, in_pod=False)
    if isinstance(found, FolderSource) and not Path(found.path).is_dir():
        raise ParseError(found.path, f"is not there; make it with: connectorctl init {found.path}")
    check_confdir(confdir_or_default(confdir))
    own = command_line(program, source=source, listen=listen, confdir=confdir)
    check_free(listen)
    become([*own, *rest])


def command_line(program: str, *, source: str, listen: str, confdir: Path | None) -> list[str]:
    """mitmproxy's program, the addons and the options; ParseError for a `listen` that is no HOST:PORT."""
    host, port = _host_and_port(listen)
    options = [f"connector_source={source}"]
    if confdir is not None:
        options.append(f"confdir={confdir}")
    sets = [part for each in options for part in ("--set", each)]
    where = ["--listen-host", host, "--listen-port", port]
    return [str(Path(sys.executable).with_name(program)), "-s", addons(), *where, *sets]


def check_confdir(folder: Path) -> None:
    """ParseError where mitmproxy, which comes later, would end with a traceback: it writes its CA there, once."""
    if (folder / CA_FILE).is_file():
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"{folder} cannot be written: {error.strerror}; name another folder for the proxy's keys"
        raise ParseError("--confdir", reason) from error


def check_free(listen: str) -> None:
    """ParseError where it is taken or not allowed: mitmproxy, which comes later, advises an option that is not ours."""
    host, port = _host_and_port(listen)
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(address)
    except OSError as error:
        if error.errno not in _TAKEN:
            return
        raise ParseError("--listen", f"cannot listen at {listen}: {error.strerror}; name another HOST:PORT") from error


def addons() -> str:
    """The file that mitmproxy loads, wherever this is installed."""
    spec = importlib.util.find_spec(_ADDONS)
    if spec is None or spec.origin is None:
        raise ParseError(_ADDONS, "is not installed; install the whole package")
    return spec.origin


def become(line: Sequence[str]) -> NoReturn:
    """Replace this process, which ends as the program does."""
    # What passes in TLS is nobody's to read.
    os.environ.pop("SSLKEYLOGFILE", None)
    os.execv(line[0], list(line))  # noqa: S606 - no shell is meant; the program lies beside this one


def _host_and_port(listen: str) -> tuple[str, str]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ParseError("--listen", "is not HOST:PORT; write 127.0.0.1:8080")
    return host.strip("[]"), port


def _split(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The source, and what is for mitmproxy."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    return DEFAULT_FOLDER, list(arguments)
