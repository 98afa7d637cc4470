"""Gauges after any sequence of changes are those of the Connectors that are left."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from connector_controller.connector_gauges import ConnectorGauges
from connector_controller.metrics import ControllerMetrics
from connector_controller.observed import ObservedConnector, parse_observed_connector
from connector_store.domain.base.names import ObjectKey
from lab.manifests import connector

EXPIRIES = {None: None, "2026-01-01T00:00:00Z": 1767225600.0, "2027-01-01T00:00:00Z": 1798761600.0}


def observed(key: ObjectKey, ready: str | None, expires: str | None) -> ObservedConnector:
    status: dict[str, object] = {}
    if ready is not None:
        status["conditions"] = [{"type": "Ready", "status": ready, "reason": "r", "message": ""}]
    if expires is not None:
        status["credential"] = {"expirationTime": expires}
    parsed = parse_observed_connector(connector(key.name, "https://k8s:6443", namespace="a") | {"status": status})
    assert parsed is not None
    return parsed


states = st.none() | st.tuples(st.sampled_from([None, "True", "False", "Unknown"]), st.sampled_from(list(EXPIRIES)))


@given(st.lists(st.tuples(st.sampled_from("xyz"), states)))
def test_the_gauges_are_those_of_the_last_states(
    changes: list[tuple[str, tuple[str | None, str | None] | None]],
) -> None:
    metrics = ControllerMetrics()
    gauges = ConnectorGauges(metrics)
    last: dict[str, tuple[str | None, str | None]] = {}
    for name, state in changes:
        key = ObjectKey("a", name)
        gauges.update(key, observed(key, *state) if state else None)
        if state:
            last[name] = state
        else:
            last.pop(name, None)
    counts = Counter(ready or "Unknown" for ready, _ in last.values())
    assert gauges.ready_counts == {each: counts[each] for each in ("True", "False", "Unknown")}
    gauges.show_counts()
    lines = generate_latest(metrics.registry).decode().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    expiries = {name: EXPIRIES[expires] for name, (_, expires) in last.items() if expires is not None}
    prefix = "connector_credential_expiry_timestamp_seconds{"
    assert {name: float(value) for name, value in samples.items() if name.startswith(prefix)} == {
        f'{prefix}connector="a/{name}"}}': value for name, value in expiries.items()
    }
    assert {name: float(value) for name, value in samples.items() if name.startswith("connector_ready{")} == {
        f'connector_ready{{name="{name}",namespace="a"}}': float(ready == "True") for name, (ready, _) in last.items()
    }
    assert float(samples['connector_controller_connectors{ready="True"}']) == counts["True"]


def test_an_update_changes_the_series_of_one_connector_alone() -> None:
    metrics = ControllerMetrics()
    gauges = ConnectorGauges(metrics)
    keys = [ObjectKey("a", f"c-{number}") for number in range(50)]
    for key in keys:
        gauges.update(key, observed(key, "True", "2026-01-01T00:00:00Z"))
    before = {key: metrics.credential_expiry.labels(str(key)) for key in keys}
    gauges.update(keys[0], None)
    gauges.update(keys[1], observed(keys[1], "False", "2027-01-01T00:00:00Z"))
    assert all(metrics.credential_expiry.labels(str(key)) is before[key] for key in keys[1:])
    assert gauges.ready_counts == {"True": 48, "False": 1, "Unknown": 0}
