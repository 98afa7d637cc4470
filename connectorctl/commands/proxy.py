"""Command `proxy`: replace this process by mitmproxy with the addons, on a folder of manifests."""

import errno
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
from connectorctl.folders import missing_folder_error
from connectorctl.options import choose_folder, confdir_option, make_source_option
from connectorctl.proxy_ca import CA_FILE, confdir_or_default
from connectorctl.proxy_program import DEFAULT_LISTEN, PROGRAMS, command_line, split_address

_LISTEN_ERRNOS: Final = (errno.EADDRINUSE, errno.EACCES)


@make_command(
    "proxy",
    examples=(
        "connectorctl proxy",
        "connectorctl proxy --in mitmweb",
        "connectorctl proxy ./team-a --listen 127.0.0.1:8082 -- --set connector_admin=127.0.0.1:9092",
    ),
)
@click.argument("arguments", metavar="[DIR] [-- ARGUMENT...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--listen", metavar="HOST:PORT", default=DEFAULT_LISTEN, show_default=True, help="Address to listen on.")
@click.option("--in", "program", type=click.Choice(PROGRAMS), default="mitmdump", show_default=True,
              help="Program to run. mitmweb and mitmproxy show the traffic.")  # fmt: skip
@make_source_option(DEFAULT_FOLDER, "Source, the same as DIR: a folder, kubernetes or kubernetes:CONTEXT.")
@confdir_option
def command(arguments: tuple[str, ...], listen: str, program: str, source: str, confdir: Path | None) -> None:
    """Start the proxy on a folder of manifests, ./connectors by default.

    The proxy runs until you stop it. Arguments after -- are for mitmproxy. DIR may also be kubernetes. A second proxy
    on the machine also needs another address for health and metrics: -- --set connector_admin=HOST:PORT.
    """
    folders, extra_arguments = _split_arguments(arguments)
    source = choose_folder(folders, source)
    parsed_source = parse_source(source, in_pod=False)
    if isinstance(parsed_source, FolderSource) and not Path(parsed_source.path).is_dir():
        raise missing_folder_error(Path(parsed_source.path))
    if program == "mitmproxy" and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ParseError("--in mitmproxy", "needs a terminal; use --in mitmweb, or --in mitmdump for a service")
    check_confdir(confdir_or_default(confdir))
    proxy_command = command_line(program, source=source, listen=listen, confdir=confdir)
    check_listen_address(listen)
    exec_program([*proxy_command, *extra_arguments])


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
    host, port = split_address(listen)
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
    except OSError as error:
        if error.errno not in _LISTEN_ERRNOS:
            return
        raise ParseError("--listen", f"cannot listen at {listen}: {error.strerror}; name another HOST:PORT") from error


def exec_program(arguments: Sequence[str]) -> NoReturn:
    """Replace this process with another program."""
    # With this variable, OpenSSL would write the session keys of all TLS connections to a file.
    os.environ.pop("SSLKEYLOGFILE", None)
    os.execv(arguments[0], list(arguments))  # noqa: S606 - no shell; the program is next to the interpreter


def _split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the source, if there is one, and mitmproxy's arguments."""
    count = 1 if arguments and not arguments[0].startswith("-") else 0
    return list(arguments[:count]), list(arguments[count:])
