"""Command line of the proxy: a program of mitmproxy with the addons."""

import importlib.util
import sys
from pathlib import Path
from typing import Final

from connector_store.domain.base.errors import ParseError

DEFAULT_LISTEN: Final = "127.0.0.1:8080"
"""Address that the proxy listens on."""
PROGRAMS: Final = ("mitmdump", "mitmweb", "mitmproxy")
_ADDON_MODULE: Final = "addons.connector"
PROGRAM_OPTIONS: Final = {
    "mitmweb": [f"web_columns={column}" for column in ("icon", "method", "status", "comment", "size", "time")]
}
"""Options with which the flow list shows the caller and the Connector, which are the comment of a flow."""


def command_line(program: str, *, source: str, listen: str, confdir: Path | None) -> list[str]:
    """Return the command line of mitmproxy with the addons. Raises ParseError if `listen` is not HOST:PORT."""
    host, port = split_address(listen)
    options = [f"connector_source={source}"]
    if confdir is not None:
        options.append(f"confdir={confdir}")
    options += PROGRAM_OPTIONS.get(program, [])
    set_options = [part for option in options for part in ("--set", option)]
    listen_options = ["--listen-host", host, "--listen-port", port]
    return [str(Path(sys.executable).with_name(program)), "-s", addon_file(), *listen_options, *set_options]


def addon_file() -> str:
    """Return the path of the addon file for mitmproxy."""
    spec = importlib.util.find_spec(_ADDON_MODULE)
    if spec is None or spec.origin is None:
        raise ParseError(_ADDON_MODULE, "is not installed; install the whole package")
    return spec.origin


def split_address(listen: str) -> tuple[str, str]:
    """Return host and port. Raises ParseError if `listen` is not HOST:PORT."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ParseError("--listen", f"is not HOST:PORT; write {DEFAULT_LISTEN}")
    return host.strip("[]"), port
