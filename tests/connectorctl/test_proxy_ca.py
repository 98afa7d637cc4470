"""The CA in mitmproxy's confdir."""

from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connectorctl.proxy_ca import CA_FILE, confdir_or_default, read_proxy_ca
from lab.certificates import make_ca


def test_only_the_certificate_is_read(tmp_path: Path) -> None:
    ca = make_ca()
    (tmp_path / CA_FILE).write_bytes(ca.key_pem + ca.pem)
    assert read_proxy_ca(tmp_path) == ca.pem


def test_a_proxy_that_never_ran_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="start the proxy once"):
        read_proxy_ca(tmp_path)


def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / CA_FILE).write_text("?")
    with pytest.raises(ParseError) as refused:
        read_proxy_ca(tmp_path)
    assert refused.value.path == str(tmp_path / CA_FILE)


def test_the_default_is_in_the_home_folder() -> None:
    assert confdir_or_default(None) == Path.home() / ".mitmproxy"
