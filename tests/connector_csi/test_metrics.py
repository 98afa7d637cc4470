"""Metrics: each driver has its own, in the text format."""

from connector_csi.metrics import Metrics


def test_counts_are_told_in_the_text_format() -> None:
    metrics = Metrics()
    metrics.calls.labels("NodePublishVolume", "OK").inc()
    assert b'connector_csi_calls_total{call="NodePublishVolume",code="OK"} 1.0' in metrics.text()


def test_two_drivers_do_not_share_them() -> None:
    first, second = Metrics(), Metrics()
    first.written.inc()
    assert b"connector_csi_writes_total 0.0" in second.text()


def test_the_token_that_ends_first_is_told() -> None:
    metrics = Metrics()
    name = b"connector_csi_token_expiry_timestamp_seconds "
    assert name + b"0.0" in metrics.text()
    metrics.expiries |= {"a": 300.0, "b": 200.0, "c": None}
    assert name + b"200.0" in metrics.text()
