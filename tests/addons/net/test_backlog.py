import pytest

from addons.net.backlog import Backlog


class FakeConnection:
    def __init__(self, unsent: int) -> None:
        self.unsent_bytes = unsent
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_unsent_bytes_are_counted_until_the_peer_reads_them() -> None:
    backlog, one, two = Backlog(), FakeConnection(5), FakeConnection(7)
    for connection in (one, two, one):
        backlog.add(connection)
    assert backlog.size == 12
    for connection in (one, one, two):
        backlog.remove(connection)
    assert backlog.size == 0


def test_beyond_the_limit_the_connection_that_is_behind_the_longest_is_aborted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backlog = Backlog(max_bytes=10)
    connections = [FakeConnection(4) for _ in range(5)]
    for connection in connections:
        backlog.add(connection)
    assert [connection.aborted for connection in connections] == [True, True, True, False, False]
    assert (backlog.size, backlog.abort_count) == (8, 3)
    assert caplog.messages == ["more than 10 bytes wait for slow readers; closing the slowest connections"]


def test_a_single_connection_beyond_the_limit_is_aborted_too() -> None:
    backlog, huge = Backlog(max_bytes=10), FakeConnection(11)
    backlog.add(huge)
    assert (huge.aborted, backlog.size) == (True, 0)


def test_the_backlog_is_congested_from_a_number_of_slow_readers_on() -> None:
    backlog = Backlog(slow_readers=2)
    one, two = FakeConnection(1), FakeConnection(1)
    backlog.add(one)
    assert not backlog.is_congested
    backlog.add(two)
    assert backlog.is_congested
    backlog.remove(one)
    assert not backlog.is_congested
