"""The API server's time is estimated from `Date` headers and counted by the boot-time clock."""

import logging
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.kube.client import KubeClient
from connector_store.kube.resources import PODS
from connector_store.kube.server_clock import ServerClock
from tests.fakes.api_server import FakeApiServer

BOOTED = 1_700_000_000.0


class World:
    """A node and an API server. The node's clock is ahead by `offset` seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self.boot = 500.0
        self.offset = offset
        self.clock = ServerClock(boot_time=lambda: self.boot, now=lambda: BOOTED + self.boot + self.offset)

    @property
    def server_time(self) -> float:
        return BOOTED + self.boot

    def respond(self, *, way: float = 0.0) -> None:
        """Send a request whose way to the API server and back takes `way` seconds each."""
        sent_at = self.boot
        self.boot += way
        date = formatdate(int(self.server_time), usegmt=True)
        self.boot += way
        self.clock.observe(date, sent_at=sent_at)


def test_before_the_first_response_it_follows_the_nodes_clock() -> None:
    world = World(offset=40.0)
    assert world.clock.now() == world.server_time + 40
    assert world.clock.node_offset == 0.0


def test_the_time_is_that_of_the_api_server_even_if_the_node_is_wrong_and_sleeps() -> None:
    world = World(offset=600.0)
    world.respond()
    booted_at = world.clock.now() - world.boot
    assert booted_at == pytest.approx(BOOTED, abs=1)
    world.offset = -86400.0
    world.boot += 8 * 3600
    assert world.clock.now() - world.boot == pytest.approx(booted_at)
    assert world.clock.now() == pytest.approx(world.server_time, abs=1)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 30)), min_size=1), st.floats(0, 1))
def test_for_every_series_of_responses_the_error_is_at_most_a_second_and_the_shortest_way(
    responses: list[tuple[float, float]], start: float
) -> None:
    world = World()
    world.boot += start
    for way, pause in responses:
        world.respond(way=way)
        world.boot += pause
    shortest = min(way for way, _ in responses)
    assert abs(world.clock.now() - world.server_time) <= 1 + shortest + 1e-6


def test_many_responses_leave_an_error_of_milliseconds() -> None:
    world = World()
    for _ in range(200):
        world.respond(way=0.001)
        world.boot += 0.099
    assert world.clock.now() == pytest.approx(world.server_time, abs=0.11)


@pytest.mark.parametrize(
    "date",
    [
        pytest.param(None, id="no Date"),
        pytest.param("", id="an empty one"),
        pytest.param("yesterday", id="no date"),
        pytest.param("Mon, 32 Jan 1970 13:46:50 GMT", id="a day that does not exist"),
    ],
)
def test_a_response_without_a_valid_date_changes_nothing(date: str | None) -> None:
    world = World(offset=40.0)
    world.clock.observe(date, sent_at=world.boot)
    assert world.clock.node_offset == 0.0


def test_an_offset_of_more_than_30_seconds_is_logged_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(offset=20.0)
    world.respond()
    assert caplog.messages == []
    for world.offset in (600.0, 601.0):
        world.respond()
    assert len(caplog.messages) == 1
    assert "s ahead of that of the API server" in caplog.messages[0]
    assert world.clock.node_offset == pytest.approx(601, abs=1)
    world.offset = 0.0
    world.respond()
    assert caplog.messages[1:] == ["the clocks of this node and of the API server agree again"]
    world.offset = -60.0
    world.respond()
    assert "behind that of" in caplog.messages[2]


async def test_a_client_sets_the_clock_by_each_response() -> None:
    boot = [100.0]
    clock = ServerClock(boot_time=lambda: boot[0], now=lambda: 0.0)
    async with (
        FakeApiServer().serving() as server,
        KubeClient(server.configuration, server_clock=clock) as client,
    ):
        await client.get(PODS.path("team-a"))
    assert clock.node_offset < -1_000_000
