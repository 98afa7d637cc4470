"""Entries expire, and the least recently used one is evicted."""

import pytest

from connector_store.cache import ExpiringCache, Lru


def test_an_entry_expires_at_its_time() -> None:
    cache = ExpiringCache[str, int](2)
    cache.put("a", 1, expires_at=10)
    assert cache.get("a", now=9.9) == 1
    assert cache.get("a", now=10) is None
    assert len(cache) == 0


def test_the_longest_unused_entry_goes_first() -> None:
    cache = ExpiringCache[str, int](2)
    for key in ("a", "b"):
        cache.put(key, 1, expires_at=10)
    cache.get("a", now=0)
    cache.put("c", 1, expires_at=10)
    assert [key for key in ("a", "b", "c") if cache.get(key, now=0)] == ["a", "c"]


def test_entries_can_be_dropped_even_if_absent() -> None:
    cache = ExpiringCache[str, int](2)
    cache.put("a", 1, expires_at=10)
    cache.drop("a")
    cache.drop("b")
    assert cache.get("a", now=0) is None


def test_using_an_entry_keeps_it() -> None:
    lru = Lru[str, int](2)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.get("a") == 1
    lru.put("c", 3)
    assert [lru.get(each) for each in "abc"] == [1, None, 3]
    assert len(lru) == 2


def test_replacing_an_entry_keeps_it() -> None:
    lru = Lru[str, int](2)
    for key, value in (("a", 1), ("b", 2), ("a", 3), ("c", 4)):
        lru.put(key, value)
    assert [lru.get(each) for each in "abc"] == [3, None, 4]


def test_an_entry_is_replaced_dropped_and_all_are_cleared() -> None:
    lru = Lru[str, int](2)
    lru.put("a", 1)
    lru.put("a", 2)
    assert (len(lru), lru.get("a")) == (1, 2)
    lru.drop("a")
    lru.drop("a")
    assert lru.get("a") is None
    lru.put("b", 1)
    lru.clear()
    assert len(lru) == 0


@pytest.mark.parametrize(
    ("keys", "kept"),
    [
        pytest.param(["aa", "bb", "c"], ["bb", "c"], id="the least recently used go"),
        pytest.param(["a", "b", "cccc"], ["cccc"], id="as many as needed go"),
        pytest.param(["a", "ccccccccc"], ["ccccccccc"], id="the newest stays, even if it is too heavy"),
        pytest.param(["aaaa", "aaaa", "aaaa"], ["aaaa"], id="a replaced entry weighs once"),
    ],
)
def test_entries_weigh_at_most_the_size_together(keys: list[str], kept: list[str]) -> None:
    lru = Lru[str, str](4, len)
    for key in keys:
        lru.put(key, key)
    assert list(lru.values()) == kept


def test_a_dropped_entry_weighs_nothing() -> None:
    lru = Lru[str, int](4, len)
    lru.put("aaaa", 1)
    lru.drop("aaaa")
    for key in ("b", "cc"):
        lru.put(key, 2)
    assert len(lru) == 2
    lru.clear()
    for key in ("dd", "ee"):
        lru.put(key, 3)
    assert len(lru) == 2
