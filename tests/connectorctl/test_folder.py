"""A folder as a source."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from connector_store.domain.access import Granted
from connector_store.domain.errors import ParseError
from connector_store.domain.names import ObjectKey
from connector_store.domain.settings import Settings
from connector_store.folder.access import SigningKey, TokenAccess
from connectorctl import folder
from connectorctl.arguments import Arguments
from connectorctl.example import MANIFESTS, write_example
from connectorctl.proxy_ca import CA_FILE
from lab.certificates import make_ca

KEY = ObjectKey("default", "k8s-connector")
SETTINGS = Settings()
CA = make_ca()


@pytest.fixture
def asked(tmp_path: Path) -> Arguments:
    """For a folder `connectors` with the example, and a proxy that has run once."""
    write_example(tmp_path / "connectors")
    confdir = tmp_path / "confdir"
    confdir.mkdir()
    (confdir / CA_FILE).write_bytes(CA.pem)
    return Arguments(command="kubeconfig", keys=(KEY,), confdir=confdir)


def access(asked: Arguments, now: float) -> TokenAccess:
    assert asked.confdir is not None
    key = SigningKey.load_or_create(asked.confdir)
    return TokenAccess(key.public, audience=SETTINGS.audience, now=lambda: now)


def test_an_entry_holds_what_the_proxy_accepts(asked: Arguments, tmp_path: Path) -> None:
    (entry,) = folder.entries(asked, tmp_path / "connectors", SETTINGS, 1000.0)
    assert entry.key == KEY
    assert str(entry.address) == "https://192.168.1.100:6443"
    assert (entry.proxy, entry.ca) == (folder.DEFAULT_PROXY, CA.pem)
    granted = access(asked, 1000.0).cached(entry.token, KEY)
    assert isinstance(granted, Granted)
    assert granted.token_expires == 1000 + asked.ttl


def test_the_proxy_is_the_one_that_was_named(asked: Arguments, tmp_path: Path) -> None:
    (entry,) = folder.entries(replace(asked, proxy="http://p:1"), tmp_path / "connectors", SETTINGS, 0.0)
    assert entry.proxy == "http://p:1"


def test_a_token_is_for_the_connector_alone(asked: Arguments, tmp_path: Path) -> None:
    found = folder.token(asked, tmp_path / "connectors", SETTINGS, time.time())
    assert isinstance(access(asked, time.time()).cached(found, KEY), Granted)
    assert not isinstance(access(asked, time.time()).cached(found, ObjectKey("default", "other")), Granted)


@pytest.mark.parametrize("name", ["entries", "token"])
def test_a_connector_that_is_not_there_is_not_found(asked: Arguments, tmp_path: Path, name: str) -> None:
    absent = replace(asked, keys=(ObjectKey("default", "absent"),))
    with pytest.raises(ParseError, match='"absent" not found in namespace "default"'):
        getattr(folder, name)(absent, tmp_path / "connectors", SETTINGS, 0.0)


def test_a_connector_that_cannot_be_read_says_why(asked: Arguments, tmp_path: Path) -> None:
    path = write_example(tmp_path / "other")
    path.write_text(MANIFESTS.replace("https:", "http:"))
    with pytest.raises(ParseError, match=r"Connector default/k8s-connector: spec\.address"):
        folder.token(asked, tmp_path / "other", SETTINGS, 0.0)


def test_a_connector_without_its_secret_still_has_a_kubeconfig(asked: Arguments, tmp_path: Path) -> None:
    path = write_example(tmp_path / "other")
    path.write_text(MANIFESTS.split("\n---\n")[1])
    assert len(folder.entries(asked, tmp_path / "other", SETTINGS, 0.0)) == 1


def test_a_folder_that_is_not_there_is_named(asked: Arguments, tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="connectorctl init"):
        folder.token(asked, tmp_path / "absent", SETTINGS, 0.0)


def test_rotating_is_for_one_connector_of_a_folder(asked: Arguments, tmp_path: Path) -> None:
    both = replace(asked, keys=(KEY, KEY), rotating=True)
    with pytest.raises(ParseError, match="a token of its own"):
        folder.entries(both, tmp_path / "connectors", SETTINGS, 0.0)
