"""What `with` does to what is started."""

import pytest

from lab.process import Startable


class Thing(Startable):
    def __init__(self, *, starts: bool) -> None:
        self.starts, self.done = starts, list[str]()

    def start(self) -> None:
        self.done.append("start")
        if not self.starts:
            raise RuntimeError("half")

    def close(self) -> None:
        self.done.append("close")


def test_it_is_closed_in_the_end() -> None:
    with Thing(starts=True) as thing:
        assert thing.done == ["start"]
    assert thing.done == ["start", "close"]


def test_what_has_started_in_part_is_closed() -> None:
    thing = Thing(starts=False)
    with pytest.raises(RuntimeError, match="half"), thing:
        pass
    assert thing.done == ["start", "close"]
