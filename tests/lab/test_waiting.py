"""What a test that waits gets, and what it is told when nothing comes."""

import pytest

from lab.waiting import until


def test_it_looks_until_the_answer_is_true_and_gives_it() -> None:
    answers = iter(["", None, "here", "later"])
    assert until(lambda: next(answers), "an answer") == "here"
    assert next(answers) == "later"


def test_what_does_not_come_is_named_and_was_looked_for_once() -> None:
    asked: list[None] = []
    with pytest.raises(AssertionError, match="the Connector did not come about within 0 s"):
        until(lambda: asked.append(None), "the Connector", timeout=0)
    assert asked == [None]
