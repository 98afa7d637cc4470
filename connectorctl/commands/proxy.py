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
from connector_store.domain.config.connector_source import DEFAULT_FOLDER, FolderSource, parse_source
from connectorctl.command import make_command as make
from connectorctl.options import confdir_option
from connectorctl.proxy_ca import CA_FILE, confdir_or_default

PROGRAMS: Final = ("mitmdump", "mitmweb", "mitmproxy")
_LISTEN_ERRNOS: Final = (errno.EADDRINUSE, errno.EACCES)
_ADDON_MODULE: Final = "addons.connector"


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
    source, extra_arguments = _split_arguments(arguments)
    parsed_source = parse_source(source, in_pod=False)
    if isinstance(parsed_source, FolderSource) and not Path(parsed_source.path).is_dir():
        raise ParseError(parsed_source.path, f"is not there; make it with: connectorctl init {parsed_source.path}")
    check_confdir(confdir_or_default(confdir))
    proxy_command = command_line(program, source=source, listen=listen, confdir=confdir)
    check_listen_address(listen)
    exec_program([*proxy_command, *extra_arguments])


def command_line(program: str, *, source: str, listen: str, confdir: Path | None) -> list[str]:
    """mitmproxy's program, the addons and the options; ParseError for a `listen` that is no HOST:PORT."""
    host, port = _host_and_port(listen)
    options = [f"connector_source={source}"]
    if confdir is not None:
        options.append(f"confdir={confdir}")
    set_options = [part for each in options for part in ("--set", each)]
    listen_options = ["--listen-host", host, "--listen-port", port]
    return [str(Path(sys.executable).with_name(program)), "-s", addon_file(), *listen_options, *set_options]


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


def check_listen_address(listen: str) -> None:
    """ParseError where it is taken or not allowed: mitmproxy, which comes later, advises an option that is not ours."""
    host, port = _host_and_port(listen)
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
    except OSError as error:
        if error.errno not in _LISTEN_ERRNOS:
            return
        raise ParseError("--listen", f"cannot listen at {listen}: {error.strerror}; name another HOST:PORT") from error


def addon_file() -> str:
    """The file that mitmproxy loads, wherever this is installed."""
    spec = importlib.util.find_spec(_ADDON_MODULE)
    if spec is None or spec.origin is None:
        raise ParseError(_ADDON_MODULE, "is not installed; install the whole package")
    return spec.origin


def exec_program(arguments: Sequence[str]) -> NoReturn:
    """Replace this process, which ends as the program does."""
    # What passes in TLS is nobody's to read.
    os.environ.pop("SSLKEYLOGFILE", None)
    os.execv(arguments[0], list(arguments))  # noqa: S606 - no shell is meant; the program lies beside this one


def _host_and_port(listen: str) -> tuple[str, str]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ParseError("--listen", "is not HOST:PORT; write 127.0.0.1:8080")
    return host.strip("[]"), port


def _split_arguments(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The source, and what is for mitmproxy."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    return DEFAULT_FOLDER, list(arguments)
