"""Reports of a command's progress, on a terminal and elsewhere."""

import contextlib
import io

import pytest

from lab.progress import CommandProgress, render_bar
from tests.fakes.writes import TerminalStream


def report(stream: io.StringIO, total: int | None, lines: list[tuple[float, str]]) -> str:
    """Return what is printed to `stream` if each line comes at its second."""
    clock = iter([0.0, *(seconds for seconds, _ in lines)])
    with contextlib.redirect_stderr(stream):
        progress = CommandProgress("packages", total, now=lambda: next(clock))
        for _, line in lines:
            progress.add_line(line)
        progress.end()
    return stream.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> TerminalStream:
    monkeypatch.setenv("COLUMNS", "80")
    return TerminalStream()


def test_the_bar_has_the_share_and_the_time_left() -> None:
    assert render_bar(1, 4, 61.0, "1 of 4 x") == f"[{'#' * 7}{'.' * 23}] 1 of 4 x, 4 min left"
    assert render_bar(4, 4, 61.0, "all") == f"[{'#' * 30}] all, 0 min left"


def test_a_terminal_has_one_line_that_is_drawn_again(terminal: TerminalStream) -> None:
    printed = report(terminal, 4, [(0.5, "fmt"), (30.0, "net"), (30.5, "os"), (60.0, "main")])
    assert printed.split("\r\x1b[K") == [
        "",
        f"  [{'#' * 15}{'.' * 15}] 2 of at most 4 packages, 1 min left",
        f"  [{'#' * 30}] 4 of at most 4 packages, 0 min left",
        "",
    ]


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        pytest.param(None, "  2 packages, now net/http", id="the total is unknown"),
        pytest.param(1, "  2 of at most 1 packages, now net/http", id="there are more than expected"),
    ],
)
def test_without_a_share_a_terminal_has_the_last_line(
    terminal: TerminalStream, total: int | None, expected: str
) -> None:
    assert report(terminal, total, [(0.5, "fmt"), (30.0, "net/http")]).split("\r\x1b[K") == ["", expected, ""]


def test_a_line_is_no_longer_than_the_terminal(terminal: TerminalStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    [line] = report(terminal, None, [(30.0, "x" * 100)]).split("\r\x1b[K")[1:-1]
    assert len(line) == 29


def test_elsewhere_a_report_is_a_line_of_its_own() -> None:
    lines = [(5.0, "fmt"), (10.0, "net"), (15.0, "os"), (21.0, "x" * 200)]
    assert report(io.StringIO(), 4, lines) == (
        f"  2 of at most 4 packages, now net\n  4 of at most 4 packages, now {'x' * 100}\n"
    )
