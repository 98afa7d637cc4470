from connector_store.token_bucket import TokenBucket


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
