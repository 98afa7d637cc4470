"""Command line of the proxy."""

import sys
from pathlib import Path

import pytest
from mitmproxy.tools.web.web_columns import AVAILABLE_WEB_COLUMNS

from connector_store.domain.base.errors import ParseError
from connectorctl import proxy_program

COLUMNS = ("icon", "method", "status", "comment", "size", "time")


def test_the_columns_of_mitmweb_exist() -> None:
    assert set(COLUMNS) <= set(AVAILABLE_WEB_COLUMNS)


def test_the_command_line_names_the_program_the_addons_and_the_folder() -> None:
    words = proxy_program.command_line("mitmweb", source="here", listen="[::1]:81", confdir=Path("keys"))
    assert words[0] == str(Path(sys.executable).with_name("mitmweb"))
    assert words[1:3] == ["-s", str(Path(proxy_program.__file__).parents[1] / "addons" / "connector.py")]
    assert words[3:] == [
        *("--listen-host", "::1", "--listen-port", "81"),
        *("--set", "connector_source=here", "--set", "confdir=keys"),
        *(part for column in COLUMNS for part in ("--set", f"web_columns={column}")),
    ]


def test_missing_addons_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_program, "_ADDON_MODULE", "absent_package")
    with pytest.raises(ParseError, match="absent_package: is not installed; install the whole package"):
        proxy_program.addon_file()


@pytest.mark.parametrize("listen", ["", "8080", ":8080", "x:", "x:y", "x:65536", "x:\u0661"])
def test_an_address_without_host_or_port_is_an_error(listen: str) -> None:
    with pytest.raises(ParseError, match="--listen: is not HOST:PORT"):
        proxy_program.split_address(listen)
