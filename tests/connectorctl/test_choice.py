"""Choice of a Connector without a name: the only one, or the one that the user picks on a terminal."""

import sys
from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl.choice import choose_connector
from connectorctl.example import MANIFESTS
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from tests.fakes.writes import TerminalStream

FIRST, SECOND = ObjectKey("default", "k8s-connector"), ObjectKey("default", "other")


def choose(key: ObjectKey | None = None) -> ObjectKey:
    return choose_connector(key, SourceOptions(), Invocation())


@pytest.fixture
def two(connectors: Path) -> None:
    (connectors / "other.yaml").write_text(MANIFESTS.replace("k8s-connector", "other").replace("k8s-secret", "other"))


def test_a_name_is_used_as_it_is(workdir: Path) -> None:
    assert choose(SECOND) == SECOND


def test_the_only_connector_needs_no_name(connectors: Path) -> None:
    assert choose() == FIRST


def test_a_folder_without_a_connector_is_an_error_with_the_next_step(workdir: Path) -> None:
    Path("connectors").mkdir()
    with pytest.raises(ParseError, match="the source has no Connector; create one with: connectorctl import"):
        choose()


def test_several_are_listed_in_the_error_without_a_terminal(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TerminalStream("2\n"))
    with pytest.raises(ParseError, match=f"several Connectors; name one of: {FIRST}, {SECOND}"):
        choose()


def test_a_terminal_asks_which_one(
    two: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("connectorctl.choice.is_terminal", lambda: True)
    monkeypatch.setattr(sys, "stdin", TerminalStream("9\n2\n"))
    assert choose() == SECOND
    out, err = capsys.readouterr()
    assert out == ""
    assert f"  1  {FIRST}\n  2  {SECOND}\n" in err
    assert "9 is not in the range" in err


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
def test_a_closed_stream_is_not_a_terminal(two: None, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    monkeypatch.setattr(sys, "stdin", TerminalStream())
    monkeypatch.setattr(sys, "stdout", TerminalStream())
    monkeypatch.setattr(sys, closed, None)
    with pytest.raises(ParseError):
        choose()
