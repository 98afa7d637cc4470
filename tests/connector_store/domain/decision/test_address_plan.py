import pytest

from connector_store.domain.decision.address_plan import is_ip, share_time


def test_each_address_gets_an_equal_share_of_the_time_that_is_left() -> None:
    times = iter([0.0, 1.0, 9.0])
    shares = list(share_time(["a", "b", "c"], 9.0, times.__next__))
    assert shares == [("a", 3.0), ("b", 4.0), ("c", 0.0)]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.0.2.1", True), ("2001:db8::1", True), ("k8s.example", False), ("127.1", False), ("", False)],
)
def test_only_ip_addresses_need_no_resolution(host: str, expected: bool) -> None:
    assert is_ip(host) is expected
