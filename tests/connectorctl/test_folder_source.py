"""The folder source."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.folder.caller_tokens import TokenAccess
from connector_store.folder.signing_key import SigningKey
from connectorctl import folder_source
from connectorctl.example import MANIFESTS, write_example
from connectorctl.option_values import CallerOptions
from connectorctl.proxy_ca import CA_FILE
from lab.certificates import make_ca

KEY = ObjectKey("default", "k8s-connector")
SETTINGS = Settings()
CA = make_ca()


@pytest.fixture
def caller_options(tmp_path: Path) -> CallerOptions:
    """Options for a folder `connectors` with the example, and a proxy that has run once."""
    write_example(tmp_path / "connectors")
    confdir = tmp_path / "confdir"
    confdir.mkdir()
    (confdir / CA_FILE).write_bytes(CA.pem)
    return CallerOptions(confdir=confdir)


def access(caller_options: CallerOptions, now: float) -> TokenAccess:
    assert caller_options.confdir is not None
    key = SigningKey.load_or_create(caller_options.confdir)
    return TokenAccess(key.public_key, audience=SETTINGS.audience, recheck=30, now=lambda: now)


def entries(
    caller_options: CallerOptions, workdir: Path, now: float = 0.0, *, proxy: str | None = None
) -> list[KubeconfigEntry]:
    return folder_source.build_entries(workdir, [KEY], caller_options, SETTINGS, now, proxy=proxy)


def token(caller_options: CallerOptions, workdir: Path, now: float = 0.0) -> str:
    return folder_source.issue_token(workdir, KEY, caller_options, SETTINGS, now)


def test_the_store_has_the_system_namespace_for_locks(tmp_path: Path) -> None:
    store = folder_source.load_store(tmp_path, Settings(system_namespace="installed"))
    assert store.access.system_namespace == "installed"


def test_an_entry_has_a_token_that_the_proxy_accepts(caller_options: CallerOptions, tmp_path: Path) -> None:
    (entry,) = entries(caller_options, tmp_path / "connectors", 1000.0)
    assert entry.key == KEY
    assert str(entry.address) == "https://k8s.example:6443"
    assert (entry.proxy, entry.ca) == (folder_source.DEFAULT_PROXY, CA.pem)
    granted = access(caller_options, 1000.0).check_cached(entry.token, KEY)
    assert isinstance(granted, Granted)
    assert granted.token_expires_at == 1000 + caller_options.ttl


def test_the_proxy_option_is_used(caller_options: CallerOptions, tmp_path: Path) -> None:
    (entry,) = entries(caller_options, tmp_path / "connectors", proxy="http://p:1")
    assert entry.proxy == "http://p:1"


def test_a_token_is_for_one_connector(caller_options: CallerOptions, tmp_path: Path) -> None:
    connector_token = token(caller_options, tmp_path / "connectors", time.time())
    assert isinstance(access(caller_options, time.time()).check_cached(connector_token, KEY), Granted)
    assert not isinstance(
        access(caller_options, time.time()).check_cached(connector_token, ObjectKey("default", "other")), Granted
    )


@pytest.mark.parametrize("call", [entries, token])
def test_a_missing_connector_is_not_found(
    caller_options: CallerOptions, tmp_path: Path, call: Callable[[CallerOptions, Path], object]
) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(ParseError, match='"k8s-connector" not found in namespace "default"'):
        call(caller_options, tmp_path / "other")


def test_an_invalid_connector_has_a_reason(caller_options: CallerOptions, tmp_path: Path) -> None:
    path = write_example(tmp_path / "other")
    path.write_text(MANIFESTS.replace("https:", "http:"))
    with pytest.raises(ParseError, match=r"Connector default/k8s-connector: spec\.address"):
        token(caller_options, tmp_path / "other")


def test_a_connector_without_its_secret_still_has_a_kubeconfig(caller_options: CallerOptions, tmp_path: Path) -> None:
    path = write_example(tmp_path / "other")
    path.write_text(MANIFESTS.split("\n---\n")[1])
    assert len(entries(caller_options, tmp_path / "other")) == 1


def test_a_missing_folder_is_named(caller_options: CallerOptions, tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="connectorctl init"):
        token(caller_options, tmp_path / "absent")
