"""Metrics: each driver has its own, in the text format."""

from connector_csi.metrics import CsiMetrics


def test_counters_are_in_the_text_format() -> None:
    metrics = CsiMetrics()
    metrics.calls.labels("NodePublishVolume", "OK").inc()
    assert b'connector_csi_calls_total{call="NodePublishVolume",code="OK"} 1.0' in metrics.render()


def test_two_drivers_do_not_share_metrics() -> None:
    first, second = CsiMetrics(), CsiMetrics()
    first.writes.inc()
    assert b"connector_csi_writes_total 0.0" in second.render()


def test_the_first_token_expiry_is_reported() -> None:
    metrics = CsiMetrics()
    name = b"connector_csi_token_expiry_timestamp_seconds "
    assert name + b"0.0" in metrics.render()
    metrics.token_expiries |= {"a": 300.0, "b": 200.0, "c": None}
    assert name + b"200.0" in metrics.render()
