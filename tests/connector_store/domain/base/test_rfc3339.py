from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base import rfc3339

WHEN = datetime(2026, 1, 2, 3, 4, 5, 60, timezone(timedelta(hours=1)))


def test_times_are_formatted_in_utc() -> None:
    assert rfc3339.format_time(WHEN) == "2026-01-02T02:04:05Z"
    assert rfc3339.format_unix_time(WHEN.timestamp()) == "2026-01-02T02:04:05Z"
    assert rfc3339.format_micro_time(WHEN) == "2026-01-02T02:04:05.000060Z"


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(9000, 1, 1), timezones=st.just(UTC)))
def test_every_formatted_time_parses_to_itself(when: datetime) -> None:
    assert rfc3339.parse_time(rfc3339.format_micro_time(when)) == when.timestamp()
    assert rfc3339.parse_time(rfc3339.format_time(when)) == when.replace(microsecond=0).timestamp()


@pytest.mark.parametrize("text", [None, 5, "", "soon", "2026-01-02T03:04:05"])
def test_other_values_parse_to_none(text: object) -> None:
    assert rfc3339.parse_time(text) is None
