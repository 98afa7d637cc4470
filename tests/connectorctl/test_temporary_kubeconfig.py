"""The kubeconfig of one command: private, renewed in time, and removed."""

import stat
import time
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
import yaml

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry, KubeconfigStyle
from connector_store.domain.objects.address_matching import parse_address
from connectorctl.temporary_kubeconfig import (
    MIN_INTERVAL,
    RENEWAL_INTERVAL,
    RETRY_INTERVAL,
    TemporaryKubeconfig,
    renewal_interval,
)


def write(folder: Path, token: str, issue: Callable[[], str]) -> tuple[TemporaryKubeconfig, float]:
    entry = KubeconfigEntry(
        key=ObjectKey("team-a", "k8s"),
        address=parse_address("https://k8s.example"),
        proxy="http://127.0.0.1:1",
        ca=b"",
        token=token,
    )
    return TemporaryKubeconfig.write(folder, entry, KubeconfigStyle(namespace="web"), issue)


def failing() -> str:
    raise ParseError("", "the cluster is away")


def test_the_files_are_private(tmp_path: Path) -> None:
    kubeconfig, _ = write(tmp_path, "TOKEN", failing)
    assert {each.name for each in tmp_path.iterdir()} == {"kubeconfig", "context.token"}
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}
    config = yaml.safe_load(kubeconfig.path.read_text())
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}
    assert config["contexts"][0]["context"]["namespace"] == "web"


def test_a_caller_from_outside_gets_the_first_token_from_the_provider(tmp_path: Path) -> None:
    write(tmp_path, "", lambda: "FROM-THE-JOB")
    assert (tmp_path / "context.token").read_text() == "FROM-THE-JOB"


def test_a_renewal_replaces_the_token_in_the_middle_of_its_life(tmp_path: Path) -> None:
    token = jwt.encode({"exp": int(time.time()) + 200}, "k" * 32)
    kubeconfig, seconds = write(tmp_path, token, lambda: "NEW")
    assert 60 < seconds <= 100
    assert kubeconfig.renew() == RENEWAL_INTERVAL
    assert (tmp_path / "context.token").read_text() == "NEW"


def test_a_failed_renewal_is_tried_again_and_keeps_the_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig, _ = write(tmp_path, "TOKEN", failing)
    assert kubeconfig.renew() == RETRY_INTERVAL
    assert (tmp_path / "context.token").read_text() == "TOKEN"
    assert capsys.readouterr().err == "warning: cannot renew the token: the cluster is away; next attempt in 10 s\n"


@pytest.mark.parametrize(
    ("lifetime", "seconds"),
    [(1800, RENEWAL_INTERVAL), (300, 150), (0.5, MIN_INTERVAL), (-10, MIN_INTERVAL), (float("inf"), RENEWAL_INTERVAL)],
)
def test_the_interval_is_half_of_the_life_within_bounds(lifetime: float, seconds: float) -> None:
    assert renewal_interval(lifetime) == seconds
