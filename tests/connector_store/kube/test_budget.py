from hypothesis import given
from hypothesis import strategies as st

from connector_store.kube.budget import Budget


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0.1, 5), st.integers(1, 10))
def test_for_every_sequence_no_more_is_taken_than_the_burst_and_what_came_back(
    pauses: list[float], per_second: float, burst: int
) -> None:
    budget, now, taken = Budget(per_second, burst), 0.0, 0
    for pause in pauses:
        now += pause
        taken += budget.take(now)
    assert taken <= burst + now * per_second + 1e-6


def test_a_clock_that_goes_back_gives_nothing() -> None:
    budget = Budget(1.0, 1)
    assert budget.take(100.0)
    assert not budget.take(50.0)
    assert budget.take(51.0)
