from hypothesis import given
from hypothesis import strategies as st

from connector_store.token_bucket import TokenBucket, TokenBucketBySource, TokenBucketTable


def taken(bucket: TokenBucket, tries: int) -> int:
    return sum(bucket.take() for _ in range(tries))


def test_a_burst_then_a_rate() -> None:
    clock = [0.0]
    bucket = TokenBucket(rate=2, burst=5, now=lambda: clock[0])
    assert taken(bucket, 9) == 5
    clock[0] = 1.0
    assert taken(bucket, 9) == 2
    clock[0] = 1.5
    assert taken(bucket, 9) == 1


def test_an_idle_time_refills_at_most_a_burst() -> None:
    clock = [0.0]
    bucket = TokenBucket(rate=2, burst=5, now=lambda: clock[0])
    clock[0] = 1e6
    assert taken(bucket, 9) == 5


def test_a_clock_that_is_set_back_adds_no_tokens() -> None:
    clock = [1000.0]
    bucket = TokenBucket(rate=2, burst=5, now=lambda: clock[0])
    clock[0] = 0.0
    assert taken(bucket, 9) == 5


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0.1, 5), st.integers(1, 10))
def test_for_every_sequence_at_most_the_burst_and_the_refill_are_taken(
    pauses: list[float], per_second: float, burst: int
) -> None:
    clock, taken_count = [0.0], 0
    bucket = TokenBucket(rate=per_second, burst=burst, now=lambda: clock[0])
    for pause in pauses:
        clock[0] += pause
        taken_count += bucket.take()
    assert taken_count <= burst + clock[0] * per_second + 1e-6


def test_after_a_clock_was_set_back_the_rate_continues() -> None:
    clock = [100.0]
    bucket = TokenBucket(rate=1, burst=1, now=lambda: clock[0])
    assert bucket.take()
    clock[0] = 50.0
    assert not bucket.take()
    clock[0] = 51.0
    assert bucket.take()


def test_a_charged_bucket_is_empty_until_the_missing_tokens_are_refilled() -> None:
    clock = [0.0]
    bucket = TokenBucket(rate=1, burst=2, now=lambda: clock[0])
    for _ in range(5):
        bucket.charge()
    clock[0] = 3.9
    assert not bucket.has_token()
    clock[0] = 4.0
    assert bucket.has_token()
    assert taken(bucket, 9) == 1


def test_each_source_has_its_own_and_the_number_of_sources_is_bounded() -> None:
    buckets = TokenBucketBySource(rate=1, burst=1, max_sources=2, now=lambda: 0.0)
    buckets.charge("a")
    assert [buckets.has_token(each) for each in ("a", "b")] == [False, True]
    for each in ("b", "c"):
        buckets.charge(each)
    assert len(buckets) == 2
    assert [buckets.has_token(each) for each in ("b", "c")] == [False, False]
    assert buckets.has_token("a"), "evicted, and so it starts full again"


def test_a_reservation_tells_when_its_token_is_there_and_is_refused_beyond_the_wait() -> None:
    clock = [0.0]
    bucket = TokenBucket(rate=2, burst=1, now=lambda: clock[0])
    assert [bucket.reserve(max_wait=1.0) for _ in range(4)] == [0.0, 0.5, 1.0, None]
    clock[0] = 1.0
    assert bucket.reserve(max_wait=0.0) is None
    clock[0] = 1.5
    assert bucket.reserve(max_wait=0.0) == 0.0


def test_reservations_of_one_source_do_not_delay_another() -> None:
    buckets = TokenBucketBySource(rate=1, burst=1, now=lambda: 0.0)
    assert [buckets.reserve(each, max_wait=1.0) for each in ("a", "a", "a", "b")] == [0.0, 1.0, None, 0.0]


def test_a_table_evicts_only_full_buckets_and_then_new_keys_share_one() -> None:
    clock = [0.0]
    table = TokenBucketTable[str](max_buckets=2, now=lambda: clock[0])

    def take(key: str) -> bool | None:
        bucket = table.find(key, shared_key="shared", rate=1, burst=1)
        return None if bucket is None else bucket.take()

    assert [take(key) for key in ("a", "b", "c", "d", "a")] == [True, True, True, False, False]
    assert len(table) == 3
    clock[0] = 1.0
    assert [take(key) for key in ("e", "f", "e")] == [True, True, False]
    assert len(table) == 2


def test_a_full_table_is_bounded_for_shared_keys_too() -> None:
    table = TokenBucketTable[int](max_buckets=2, now=lambda: 0.0)
    buckets = [table.find(number, shared_key=-number, rate=1, burst=1) for number in range(9)]
    for number in range(1, 9):
        bucket = table.find(number, shared_key=-number, rate=1, burst=1)
        if bucket is not None:
            bucket.charge()
        buckets.append(bucket)
    assert len(table) <= 4
    assert None in buckets
