import pytest

from addons.access.unauthenticated import LOG_INTERVAL, UnauthenticatedLimit


def bounds(**changes: int) -> UnauthenticatedLimit:
    most = {"most": 10, "most_of_one": 10, "most_open": 100} | changes
    return UnauthenticatedLimit(
        max_unauthenticated=most["most"],
        max_unauthenticated_per_address=most["most_of_one"],
        max_open=most["most_open"],
        now=lambda: 0.0,
    )


@pytest.mark.parametrize(
    ("changes", "open_now", "says"),
    [
        pytest.param({"most": 2}, 0, "the callers of 2 are not known yet", id="in all"),
        pytest.param({"most_of_one": 2}, 0, "the callers of 2 from 10.0.0.1 are not known yet", id="of one address"),
        pytest.param({"most_open": 2}, 2, "2 are open, as many as there are descriptors for", id="descriptors"),
    ],
)
def test_at_a_bound_new_ones_are_refused_and_it_is_said_once(
    changes: dict[str, int], open_now: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = bounds(**changes)
    for _ in range(2):
        assert found.acquire("10.0.0.1", open_count=0) is not None
    for _ in range(3):
        assert found.acquire("10.0.0.1", open_count=open_now) is None
    assert caplog.messages == [f"connections are refused: {says} (1 so far)"]
    assert (found.count, found.refusal_count) == (2, 3)


def test_one_address_takes_no_place_of_another() -> None:
    found = bounds(most_of_one=1)
    assert found.acquire("10.0.0.1", open_count=0) is not None
    assert found.acquire("10.0.0.1", open_count=0) is None
    assert found.acquire("10.0.0.2", open_count=0) is not None


def test_whoever_is_known_or_has_gone_gives_its_place_back_once() -> None:
    found = bounds(most=1)
    leave = found.acquire("10.0.0.1", open_count=0)
    assert leave is not None
    leave()
    leave()
    assert found.count == 0
    assert not found._count_by_address
    assert found.acquire("10.0.0.2", open_count=0) is not None


def test_nothing_is_kept_of_addresses_that_are_refused() -> None:
    found = bounds(most=0)
    for number in range(9):
        assert found.acquire(f"10.0.0.{number}", open_count=0) is None
    assert not found._count_by_address


def test_it_is_said_again_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    found = UnauthenticatedLimit(
        max_unauthenticated=0, max_unauthenticated_per_address=1, max_open=1, now=lambda: clock[0]
    )
    found.acquire("10.0.0.1", open_count=0)
    clock[0] = LOG_INTERVAL
    found.acquire("10.0.0.1", open_count=0)
    assert [each.rpartition("(")[2] for each in caplog.messages] == ["1 so far)", "2 so far)"]
