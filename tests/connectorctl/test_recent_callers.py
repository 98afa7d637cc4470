"""Who used a Connector in the last minutes, joined over proxies."""

from collections.abc import Mapping
from typing import Any

import pytest

from connectorctl.option_values import Selection
from connectorctl.proxy_sessions import ProxyAnswer
from connectorctl.recent_callers import caller_notes, join_callers

KEY = "team-a/prod"


def use(last_used: float, **values: object) -> dict[str, Any]:
    return {"caller": "ci:b", "lastUsed": last_used, "requests": 2, "errors": 1, "lastError": ""} | values


def answer(proxy: str, *uses: Mapping[str, Any], time: float = 100.0) -> ProxyAnswer:
    item = {"connector": KEY, "callers": [*uses], "callerCount": len(uses)}
    return ProxyAnswer(proxy=proxy, items=(item,), time=time, has_answered=True)


@pytest.mark.parametrize(
    ("first", "second", "last_error"),
    [
        pytest.param(use(90, lastError="new"), use(80, lastError="old"), "new", id="the first was used last"),
        pytest.param(use(80, lastError="old"), use(90, lastError="new"), "new", id="the second was used last"),
        pytest.param(use(90), use(80, lastError="old"), "old", id="the last use had no error"),
    ],
)
def test_the_counts_of_proxies_are_added(first: dict[str, Any], second: dict[str, Any], last_error: str) -> None:
    assert join_callers([answer("a", first), answer("b", second)], Selection(), 60) == [
        {"connector": KEY, "caller": "ci:b", "lastUsed": 90, "requests": 4, "errors": 2, "lastError": last_error}
    ]


def test_a_use_at_the_limit_counts_and_an_older_one_does_not() -> None:
    assert [row["lastUsed"] for row in join_callers([answer("a", use(40))], Selection(), 60)] == [40]
    assert join_callers([answer("a", use(39.9))], Selection(), 60) == []
    assert join_callers([answer("a", use(90))], Selection(namespace="team-b"), 60) == []


def test_a_list_that_is_not_whole_is_named() -> None:
    assert list(caller_notes([answer("a", use(90))])) == []
    item = {"connector": KEY, "callers": [use(90)], "callerCount": 3}
    notes = list(caller_notes([ProxyAnswer(proxy="a", items=(item,))]))
    assert notes == [f"warning: proxy a shows 1 of 3 callers of {KEY}"]
