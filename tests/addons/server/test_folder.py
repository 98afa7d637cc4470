"""Parts of a proxy with a folder of manifests."""

from pathlib import Path

import pytest

from addons.records.metrics import Metrics
from addons.relay.shared_context import Timeouts
from addons.server import assembly, folder
from addons.server.options import Config
from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import FolderSource


def config(confdir: Path, **explicit: str) -> Config:
    return Config(
        source=FolderSource("connectors"),
        authentication=None,
        recheck=30,
        outage_grace=300,
        cut_expired=False,
        forwarded_for=True,
        flows="off",
        keep_body=1,
        keep_secrets=False,
        audit="auto",
        audit_refuses=False,
        audit_commands=True,
        admin=None,
        sessions=None,
        max_header=65536,
        timeouts=Timeouts(client=1, connect=1),
        keep_target=15,
        max_unauthenticated=1,
        max_unauthenticated_per_address=1,
        max_connections=1,
        names=(),
        confdir=confdir,
        explicit=explicit,
    )


def records() -> assembly.Records:
    metrics = Metrics()
    return assembly.Records(metrics=metrics, recorders=(), recent_use=None, is_audit_log_full=None, close=lambda: None)


@pytest.mark.parametrize(
    ("explicit", "path", "words"),
    [
        pytest.param({}, "absent", "connectorctl init", id="a folder that is not there"),
        pytest.param({"ca-file": "/does/not/exist"}, ".", "No such file", id="a CA file that is not there"),
        pytest.param({"access": "no"}, ".", "connector_access", id="a setting that is wrong"),
    ],
)
def test_a_missing_folder_is_named_at_the_start(
    tmp_path: Path, explicit: dict[str, str], path: str, words: str
) -> None:
    with pytest.raises(ParseError, match=words):
        folder.create_parts(config(tmp_path, **explicit), tmp_path / path, records())


def test_a_folder_is_followed_and_callers_tokens_are_checked(tmp_path: Path) -> None:
    parts = folder.create_parts(config(tmp_path), tmp_path, records())
    assert [name for name, _ in parts.work] == ["folder", "recheck of live connections"]
    assert parts.not_ready_reason() == "not all Connectors are read yet"
    assert not parts.settings.in_cluster
