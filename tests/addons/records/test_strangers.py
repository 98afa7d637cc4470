from addons.records.strangers import BURST, RATE, Strangers


def test_a_burst_then_a_rate() -> None:
    clock = [0.0]
    strangers = Strangers(lambda: clock[0])
    assert [strangers.admit() for _ in range(int(BURST) + 1)] == [True] * int(BURST) + [False]
    clock[0] = 1.0
    assert sum(strangers.admit() for _ in range(1000)) == RATE
    assert strangers.omitted == 1 + 1000 - RATE


def test_a_quiet_time_gives_no_more_than_a_burst() -> None:
    clock = [0.0]
    strangers = Strangers(lambda: clock[0])
    clock[0] = 1e6
    assert sum(strangers.admit() for _ in range(int(BURST) + 9)) == BURST


def test_a_clock_that_is_put_back_gives_nothing() -> None:
    clock = [1000.0]
    strangers = Strangers(lambda: clock[0])
    clock[0] = 0.0
    assert sum(strangers.admit() for _ in range(int(BURST) + 9)) == BURST
