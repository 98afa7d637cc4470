import pytest

from addons.access.unauthenticated import LOG_INTERVAL, UnauthenticatedLimit


def make_limit(**changes: int) -> UnauthenticatedLimit:
    limits = {"max_unauthenticated": 10, "max_unauthenticated_per_address": 10, "max_open": 100} | changes
    return UnauthenticatedLimit(**limits, now=lambda: 0.0)


@pytest.mark.parametrize(
    ("changes", "open_count", "reason"),
    [
        pytest.param({"max_unauthenticated": 2}, 0, "the callers of 2 are not known yet", id="in all"),
        pytest.param(
            {"max_unauthenticated_per_address": 2},
            0,
            "the callers of 2 from 10.0.0.1 are not known yet",
            id="of one address",
        ),
        pytest.param({"max_open": 2}, 2, "2 are open, as many as there are descriptors for", id="descriptors"),
    ],
)
def test_at_the_limit_new_connections_are_refused_and_logged_once(
    changes: dict[str, int], open_count: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    limit = make_limit(**changes)
    for _ in range(2):
        assert limit.acquire("10.0.0.1", open_count=0) is not None
    for _ in range(3):
        assert limit.acquire("10.0.0.1", open_count=open_count) is None
    assert caplog.messages == [f"connections are refused: {reason} (1 so far)"]
    assert (limit.count, limit.refusal_count) == (2, 3)


def test_the_limit_of_one_address_does_not_affect_another() -> None:
    limit = make_limit(max_unauthenticated_per_address=1)
    assert limit.acquire("10.0.0.1", open_count=0) is not None
    assert limit.acquire("10.0.0.1", open_count=0) is None
    assert limit.acquire("10.0.0.2", open_count=0) is not None


def test_an_authenticated_or_closed_connection_is_released_once() -> None:
    limit = make_limit(max_unauthenticated=1)
    release = limit.acquire("10.0.0.1", open_count=0)
    assert release is not None
    release()
    release()
    assert limit.count == 0
    assert not limit._count_by_address
    assert limit.acquire("10.0.0.2", open_count=0) is not None


def test_refused_addresses_are_not_stored() -> None:
    limit = make_limit(max_unauthenticated=0)
    for number in range(9):
        assert limit.acquire(f"10.0.0.{number}", open_count=0) is None
    assert not limit._count_by_address


def test_refusals_are_logged_again_after_the_interval(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    limit = UnauthenticatedLimit(
        max_unauthenticated=0, max_unauthenticated_per_address=1, max_open=1, now=lambda: clock[0]
    )
    limit.acquire("10.0.0.1", open_count=0)
    clock[0] = LOG_INTERVAL
    limit.acquire("10.0.0.1", open_count=0)
    assert [each.rpartition("(")[2] for each in caplog.messages] == ["1 so far)", "2 so far)"]
