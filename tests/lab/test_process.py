"""The context manager of processes."""

from pathlib import Path

import pytest

from lab.process import Startable, complete_lines


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


def test_a_line_that_is_not_whole_yet_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    contents = {"": [], "a": [], "a\n": ["a"], "a\nb": ["a"], "a\n\nb\n": ["a", "", "b"]}
    for content, lines in contents.items():
        log.write_text(content)
        assert complete_lines(log) == lines
