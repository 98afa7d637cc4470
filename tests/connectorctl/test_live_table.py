"""Tables that are drawn again, in virtual time."""

import asyncio
import io
from collections.abc import Callable, Iterable, Sequence

import pytest

from connectorctl.live_table import INTERVAL, draw_until_interrupted, is_terminal
from tests.fakes.virtual_time import run_in_virtual_time
from tests.fakes.writes import TerminalStream

Drawing = tuple[str, Sequence[str]]
CLEAR = "\x1b[H\x1b[2J"


def draw(drawings: Iterable[Drawing]) -> list[float]:
    """Draw until there are no more drawings, and return the times at which they were taken."""
    times: list[float] = []
    remaining = iter(drawings)

    async def render() -> Drawing:
        times.append(asyncio.get_running_loop().time())
        drawing = next(remaining, None)
        if drawing is None:
            raise KeyboardInterrupt
        return drawing

    with pytest.raises(KeyboardInterrupt):
        run_in_virtual_time(draw_until_interrupted(render))
    return times


@pytest.mark.parametrize(
    ("drawings", "out", "err"),
    [
        pytest.param([("a\n", [])], "a\n", "", id="one"),
        pytest.param([("a\n", []), ("a\n", []), ("b\n", []), ("a\n", [])], "a\nb\na\n", "", id="changes alone"),
        pytest.param([("a\n", ["n"]), ("a\n", ["n"])], "a\n", "n\n", id="a note once"),
        pytest.param([("a\n", []), ("a\n", ["n", "m"])], "a\na\n", "n\nm\n", id="a note is a change"),
        pytest.param([("a\n", ["n"]), ("a\n", [])], "a\na\n", "n\n", id="the end of a note is a change"),
    ],
)
def test_changes_are_written(drawings: list[Drawing], out: str, err: str, capsys: pytest.CaptureFixture[str]) -> None:
    draw(drawings)
    assert capsys.readouterr() == (out, err)


def test_looks_are_an_interval_apart() -> None:
    assert draw([("a\n", [])] * 3) == [0.0, INTERVAL, 2 * INTERVAL, 3 * INTERVAL]


def test_a_slow_look_does_not_shorten_the_pause() -> None:
    times: list[float] = []

    async def render() -> Drawing:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 3:
            raise KeyboardInterrupt
        await asyncio.sleep(10)
        return "a\n", []

    with pytest.raises(KeyboardInterrupt):
        run_in_virtual_time(draw_until_interrupted(render))
    assert times == [0.0, 10 + INTERVAL, 2 * (10 + INTERVAL)]


def test_a_terminal_is_cleared_before_each_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = TerminalStream()
    monkeypatch.setattr("sys.stdout", terminal)
    draw([("a\n", []), ("b\n", [])])
    assert terminal.getvalue() == f"{CLEAR}a\n{CLEAR}b\n"


@pytest.mark.parametrize(
    ("create", "result"),
    [
        pytest.param(TerminalStream, True, id="a terminal"),
        pytest.param(io.StringIO, False, id="a pipe"),
        pytest.param(lambda: None, False, id="a closed stdout"),
    ],
)
def test_is_terminal(create: Callable[[], object], result: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", create())
    assert is_terminal() is result


def test_an_error_of_a_look_ends_the_command() -> None:
    async def render() -> Drawing:
        raise OSError(5, "gone")

    with pytest.raises(OSError, match="gone"):
        run_in_virtual_time(draw_until_interrupted(render))
