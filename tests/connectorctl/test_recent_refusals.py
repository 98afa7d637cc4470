"""What was refused in the last minutes, joined over proxies."""

from typing import Any

import pytest

from connectorctl.option_values import Selection
from connectorctl.proxy_sessions import ProxyAnswer
from connectorctl.recent_refusals import REFUSAL_HEADER, join_refusals, refusal_cells

KEY = "team-a/prod"


def refusal(time: float, **values: object) -> dict[str, Any]:
    return {"time": time, "status": 403, "connector": KEY, "message": "no"} | values


def answer(proxy: str, *items: dict[str, Any], time: float = 100.0) -> ProxyAnswer:
    return ProxyAnswer(proxy=proxy, items=items, time=time, has_answered=True)


def test_the_refusals_of_proxies_are_joined_and_the_newest_is_first() -> None:
    answers = [answer("a", refusal(10), refusal(30)), answer("b", refusal(20))]
    rows = join_refusals(answers, Selection(), None)
    assert [(row["proxy"], row["time"]) for row in rows] == [("a", 30), ("b", 20), ("a", 10)]


@pytest.mark.parametrize(("time", "shown"), [(40, True), (39.9, False)], ids=["at the limit", "older"])
def test_only_refusals_of_the_time_by_the_clock_of_the_proxy(time: float, shown: bool) -> None:
    answers = [answer("a", refusal(time)), answer("b", refusal(time + 1000), time=1100.0)]
    assert len(join_refusals(answers, Selection(), 60)) == (2 if shown else 0)


def test_only_refusals_of_the_selection() -> None:
    rows = [refusal(1), refusal(2, connector="team-b/prod"), refusal(3, connector="")]
    assert [row["time"] for row in join_refusals([answer("a", *rows)], Selection(namespace="team-a"), None)] == [1]


def test_a_client_that_is_not_authenticated_has_its_address() -> None:
    row = refusal(0, sourceIP="::1", request="list pods")
    assert dict(zip(REFUSAL_HEADER, refusal_cells(row), strict=True)) | {"TIME": ""} == {
        "TIME": "", "STATUS": "403", "CALLER": "from ::1", "CONNECTOR": KEY, "REQUEST": "list pods", "MESSAGE": "no",
    }  # fmt: skip
