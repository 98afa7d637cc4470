"""Command `proxy`: replace this process by mitmproxy with the addons, on a folder of manifests."""

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
from connectorctl.command import make_command
from connectorctl.options import confdir_option
from connectorctl.proxy_ca import CA_FILE, confdir_or_default

PROGRAMS: Final = ("mitmdump", "mitmweb", "mitmproxy")
_LISTEN_ERRNOS: Final = (errno.EADDRINUSE, errno.EACCES)
_ADDON_MODULE: Final = "addons.connector"


@make_command(
    "proxy",
    examples=(
        "connectorctl proxy",
        "connectorctl proxy --in mitmweb",
        "connectorctl proxy ./team-a --listen 127.0.0.1:8082 -- --set connector_admin=127.0.0.1:9092",
    ),
)
@click.argument("arguments", metavar="[DIR] [-- ARGUMENT...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--listen", metavar="HOST:PORT", default="127.0.0.1:8080", show_default=True, help="Address to listen on."
)
@click.option("--in", "program", type=click.Choice(PROGRAMS), default="mitmdump", show_default=True,
              help="Program to run. mitmweb and mitmproxy show the traffic.")  # fmt: skip
@confdir_option
def command(arguments: tuple[str, ...], listen: str, program: str, confdir: Path | None) -> None:
    """Start the proxy on a folder of manifests, ./connectors by default.

    The proxy runs until you stop it. Arguments after -- are for mitmproxy. DIR may also be kubernetes. A second proxy
    on the machine also needs another address for health and metrics: -- --set connector_admin=HOST:PORT.
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
    """Return the command line of mitmproxy with the addons. Raises ParseError if `listen` is not HOST:PORT."""
    host, port = _host_and_port(listen)
    options = [f"connector_source={source}"]
    if confdir is not None:
        options.append(f"confdir={confdir}")
    set_options = [part for option in options for part in ("--set", option)]
    listen_options = ["--listen-host", host, "--listen-port", port]
    return [str(Path(sys.executable).with_name(program)), "-s", addon_file(), *listen_options, *set_options]


def check_confdir(folder: Path) -> None:
    """Raise ParseError if mitmproxy could not write its CA into `folder`. It would exit with a traceback."""
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
    """Raise ParseError if the address is in use or not permitted. mitmproxy's own error names options of mitmproxy."""
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
    """Return the path of the addon file for mitmproxy."""
    spec = importlib.util.find_spec(_ADDON_MODULE)
    if spec is None or spec.origin is None:
        raise ParseError(_ADDON_MODULE, "is not installed; install the whole package")
    return spec.origin


def exec_program(arguments: Sequence[str]) -> NoReturn:
    """Replace this process with another program."""
    # With this variable, OpenSSL would write the session keys of all TLS connections to a file.
    os.environ.pop("SSLKEYLOGFILE", None)
    os.execv(arguments[0], list(arguments))  # noqa: S606 - no shell; the program is next to the interpreter


def _host_and_port(listen: str) -> tuple[str, str]:
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ParseError("--listen", "is not HOST:PORT; write 127.0.0.1:8080")
    return host.strip("[]"), port


def _split_arguments(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the source and mitmproxy's arguments."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    return DEFAULT_FOLDER, list(arguments)
