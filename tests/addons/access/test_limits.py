"""Connections are counted by caller and Connector."""

from addons.access.limits import Limits
from connector_store.domain.names import ObjectKey

A, B = ObjectKey("n", "a"), ObjectKey("n", "b")


def test_a_caller_has_so_many_per_connector_and_gets_them_back() -> None:
    limits = Limits(2)
    first, second = limits.take("u", A), limits.take("u", A)
    assert first is not None
    assert second is not None
    assert limits.take("u", A) is None
    assert limits.take("u", B) is not None
    assert limits.take("v", A) is not None
    first()
    assert limits.take("u", A) is not None
    assert limits.take("u", A) is None
