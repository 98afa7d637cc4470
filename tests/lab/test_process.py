"""Processes: their context manager, the wait for a condition, and the lines of their logs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.process import Process, ProcessFailedError, Startable, complete_lines
from lab.waiting import TIMEOUT


class Recorder(Startable):
    def __init__(self, *, starts: bool) -> None:
        self.starts, self.calls = starts, list[str]()

    def start(self) -> None:
        self.calls.append("start")
        if not self.starts:
            raise RuntimeError("half")

    def close(self) -> None:
        self.calls.append("close")


def test_the_object_is_closed_at_the_end() -> None:
    with Recorder(starts=True) as recorder:
        assert recorder.calls == ["start"]
    assert recorder.calls == ["start", "close"]


def test_an_object_that_started_in_part_is_closed() -> None:
    recorder = Recorder(starts=False)
    with pytest.raises(RuntimeError, match="half"), recorder:
        pass
    assert recorder.calls == ["start", "close"]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A program that runs until a test ends it."""
    process = Process(["sleep", "1000"], log=tmp_path / "log")
    process.start()
    yield process
    process.kill()


@pytest.mark.slow
def test_a_condition_that_raises_is_checked_again(process: Process) -> None:
    results = iter([ConnectionResetError, KeyError, None])

    def condition() -> bool:
        if error := next(results):
            raise error
        return True

    process.wait_until(condition, timeout=TIMEOUT)
    assert next(results, "none is left") == "none is left"


@pytest.mark.slow
def test_a_condition_that_becomes_true_as_the_process_ends_is_true(process: Process) -> None:
    results = iter([False, True])

    def condition() -> bool:
        process.kill()
        return next(results)

    process.wait_until(condition, timeout=TIMEOUT)


@pytest.mark.slow
def test_the_end_of_the_process_has_the_last_error_of_the_condition_as_its_cause(process: Process) -> None:
    def condition() -> bool:
        process.kill()
        raise ConnectionResetError("closed by the program")

    with pytest.raises(ProcessFailedError, match="sleep ended early") as caught:
        process.wait_until(condition, timeout=TIMEOUT)
    assert str(caught.value.__cause__) == "closed by the program"


@pytest.mark.slow
def test_an_assertion_of_a_condition_fails_at_once(process: Process) -> None:
    results = iter([False, True])

    def condition() -> bool:
        assert next(results), "the condition's own assertion"
        return True

    with pytest.raises(AssertionError, match="the condition's own assertion"):
        process.wait_until(condition, timeout=TIMEOUT)


@pytest.mark.slow
def test_a_condition_that_stays_false_is_an_error_on_timeout(process: Process) -> None:
    with pytest.raises(ProcessFailedError, match="sleep is not ready after 0 s"):
        process.wait_until(lambda: False, timeout=0)


def test_a_line_that_is_not_whole_yet_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    contents = {"": [], "a": [], "a\n": ["a"], "a\nb": ["a"], "a\n\nb\n": ["a", "", "b"]}
    for content, lines in contents.items():
        log.write_text(content)
        assert complete_lines(log) == lines
