"""Places are bounded, and a source with many waiters does not use up the places of others."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.waiting_places import WaitingPlaces


class World:
    """Places for waiters with names. The source is the first letter of the name."""

    def __init__(self, max_count: int) -> None:
        self.places = WaitingPlaces[str](max_count, on_evicted=lambda waiter, count: self.evicted.append(waiter))
        self.evicted: list[str] = []

    def add(self, *waiters: str) -> list[bool]:
        return [self.places.add(waiter[0], waiter) for waiter in waiters]

    def remove(self, waiter: str) -> None:
        self.places.remove(waiter[0], waiter)


@pytest.mark.parametrize(
    ("waiting", "waiter", "evicted"),
    [
        pytest.param(["a1", "a2"], "b1", [], id="there is a free place"),
        pytest.param(["a1", "a2", "a3"], "b1", ["a3"], id="the source with the most loses its newest waiter"),
        pytest.param(["b1", "a1", "a2"], "c1", ["a2"], id="the source with the most is not the first"),
        pytest.param(["a1", "a2", "a3"], "a4", None, id="the source itself has the most"),
        pytest.param(["a1", "a2", "b1"], "b2", None, id="the source would then have the most"),
        pytest.param(["a1", "b1", "c1"], "d1", None, id="each source has one waiter"),
    ],
)
def test_a_waiter_gets_a_place_unless_no_source_has_many_more(
    waiting: list[str], waiter: str, evicted: list[str] | None
) -> None:
    world = World(3)
    assert all(world.add(*waiting))
    assert world.add(waiter) == [evicted is not None]
    assert world.evicted == (evicted or [])
    assert sorted(world.places) == sorted({*waiting, waiter} - set([waiter] if evicted is None else evicted))


def test_without_places_there_is_no_waiter() -> None:
    world = World(0)
    assert world.add("a1") == [False]
    assert (len(world.places), list(world.places)) == (0, [])


def test_the_place_of_a_waiter_is_removed_once() -> None:
    world = World(2)
    world.add("a1", "a2", "b1")
    assert world.evicted == ["a2"]
    for waiter in ("a2", "a1", "a1", "c1"):
        world.remove(waiter)
    assert (len(world.places), list(world.places)) == (1, ["b1"])


def test_sources_take_turns() -> None:
    world, turns = World(5), list[str]()
    world.add("a1", "a2", "a3", "b1", "b2")
    while first := next(world.places.first_of_each(), None):
        source, waiter = first
        turns.append(waiter)
        world.remove(waiter)
        world.places.end_turn(source)
    assert turns == ["a1", "b1", "a2", "b2", "a3"]
    assert not len(world.places)


@given(st.lists(st.sampled_from("abcd"), max_size=60), st.integers(1, 8))
def test_for_every_order_each_source_gets_its_share(sources: list[str], max_count: int) -> None:
    world = World(max_count)
    world.add(*(f"{source}{number}" for number, source in enumerate(sources)))
    counts = Counter(waiter[0] for waiter in world.places)
    assert len(world.places) == counts.total() == min(max_count, len(sources))
    share = max_count // max(1, len(set(sources)))
    assert all(counts[source] >= min(share, sources.count(source)) for source in set(sources))
