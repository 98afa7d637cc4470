from hypothesis import given
from hypothesis import strategies as st

from connector_store.kube.rate_limiter import RateLimiter, RateLimiterBySource


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0.1, 5), st.integers(1, 10))
def test_for_every_sequence_at_most_the_burst_and_the_refill_are_taken(
    pauses: list[float], per_second: float, burst: int
) -> None:
    limiter, now, taken_count = RateLimiter(per_second, burst), 0.0, 0
    for pause in pauses:
        now += pause
        taken_count += limiter.take(now)
    assert taken_count <= burst + now * per_second + 1e-6


def test_a_clock_that_goes_back_adds_no_tokens() -> None:
    limiter = RateLimiter(1.0, 1)
    assert limiter.take(100.0)
    assert not limiter.take(50.0)
    assert limiter.take(51.0)


def test_each_source_has_its_own_and_the_number_of_sources_is_bounded() -> None:
    limiters = RateLimiterBySource(1.0, 1, max_sources=2)
    assert [limiters.take(each, 0.0) for each in ("a", "a", "b")] == [True, False, True]
    limiters.refund("a")
    limiters.refund("unknown")
    assert limiters.take("a", 0.0)
    assert limiters.take("c", 0.0)
    assert len(limiters) == 2
    assert limiters.take("b", 0.0), "forgotten, and so begun anew"
