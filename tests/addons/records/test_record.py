"""The record of what ended."""

import pytest

from addons.records.record import Record


def test_an_exchange_does_not_change() -> None:
    exchange = Record(event="connect", connector=None, status=407, source_ip="::1", duration=0.0)
    with pytest.raises(AttributeError):
        exchange.status = 200  # type: ignore[misc]  # what must not work
