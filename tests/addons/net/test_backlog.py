import pytest

from addons.net.backlog import Backlog


class FakeConnection:
    def __init__(self, unsent: int) -> None:
        self.unsent_bytes = unsent
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_what_waits_is_counted_until_it_is_taken() -> None:
    backlog, one, two = Backlog(), FakeConnection(5), FakeConnection(7)
    for each in (one, two, one):
        backlog.add(each)
    assert backlog.size == 12
    for each in (one, one, two):
        backlog.remove(each)
    assert backlog.size == 0


def test_past_the_budget_the_one_that_is_behind_the_longest_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    backlog = Backlog(max_bytes=10)
    all_of_them = [FakeConnection(4) for _ in range(5)]
    for each in all_of_them:
        backlog.add(each)
    assert [each.aborted for each in all_of_them] == [True, True, True, False, False]
    assert (backlog.size, backlog.abort_count) == (8, 3)
    assert caplog.messages == ["more than 10 bytes wait for slow readers; the slowest are ended"]


def test_a_single_one_that_is_too_much_is_ended_too() -> None:
    backlog, huge = Backlog(max_bytes=10), FakeConnection(11)
    backlog.add(huge)
    assert (huge.aborted, backlog.size) == (True, 0)


def test_many_are_behind_from_a_number_on() -> None:
    backlog = Backlog(slow_readers=2)
    one, two = FakeConnection(1), FakeConnection(1)
    backlog.add(one)
    assert not backlog.is_congested
    backlog.add(two)
    assert backlog.is_congested
    backlog.remove(one)
    assert not backlog.is_congested
