"""Metrics of the proxy, parsed as by Prometheus."""

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from addons.records.metrics import CAUSES, Metrics
from addons.records.record import Record
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import Identity
from connector_store.exposition import SAMPLES_PER_PIECE

REQUEST = Record(
    event="request",
    connector=ObjectKey("a", "k8s"),
    status=200,
    source_ip="::1",
    duration=0.02,
    identity=Identity(user="u"),
    info=parse_request("GET", "/api/v1/pods", ""),
    bytes_in=1,
    bytes_out=10,
)
REFUSED = Record(
    event="connect", connector=ObjectKey("a", "guessed"), status=403, source_ip="::1", duration=0.0, cause="access"
)


def scrape(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(b"".join(metrics.render()).decode())
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value for family in families for each in family.samples
    }


def test_counts_requests_by_connector_verb_and_code() -> None:
    metrics = Metrics()
    metrics.record(REQUEST)
    metrics.record(REQUEST)
    samples = scrape(metrics)
    labels = (("code", "200"), ("connector", "a/k8s"), ("verb", "list"))
    assert samples["connector_requests_total", labels] == 2
    assert samples["connector_bytes_total", (("connector", "a/k8s"), ("direction", "out"))] == 20
    assert samples["connector_bytes_total", (("connector", "a/k8s"), ("direction", "in"))] == 2
    assert samples["connector_request_duration_seconds_count", ()] == 2
    assert samples["connector_request_duration_seconds_bucket", (("le", "0.01"),)] == 0
    assert samples["connector_request_duration_seconds_bucket", (("le", "0.025"),)] == 2
    assert round(samples["connector_request_duration_seconds_sum", ()], 3) == 0.04


def test_a_refusal_counts_by_reason_and_names_no_connector() -> None:
    metrics = Metrics()
    metrics.record(REFUSED)
    samples = scrape(metrics)
    assert samples["connector_denials_total", denial_labels("access")] == 1
    assert {dict(labels)["reason"] for name, labels in samples if name == "connector_denials_total"} == CAUSES
    assert samples["connector_denials_total", denial_labels("token")] == 0
    assert b"guessed" not in b"".join(metrics.render())


def test_a_denial_of_a_caller_with_access_names_its_connector_while_that_exists() -> None:
    metrics = Metrics()
    existing = {"k8s"}
    metrics.set_objects(dict, lambda key: key.name in existing)
    metrics.record(replace(REQUEST, cause="target_refused", status=502))
    assert scrape(metrics)["connector_denials_total", denial_labels("target_refused", "a", "k8s")] == 1
    existing.clear()
    assert not any(("name", "k8s") in labels for _, labels in scrape(metrics))
    assert not any(connector for connector, _ in metrics.denials)


def test_a_caller_without_identity_chooses_no_labels_of_a_denial() -> None:
    metrics = Metrics()
    for number in range(100):
        guess = ObjectKey("guessed", f"n-{number}")
        metrics.record(replace(REQUEST, connector=guess, identity=None, cause="unavailable", bytes_in=0, bytes_out=0))
    assert {connector for connector, _ in metrics.denials} == {None}


def test_token_requests_name_their_connector_and_start_at_0() -> None:
    metrics = Metrics()
    metrics.token_requests[ObjectKey("a", "k8s"), "refused"] += 1
    samples = scrape(metrics)
    name = "connector_token_requests_total"
    assert samples[name, (("name", ""), ("namespace", ""), ("result", "error"))] == 0
    assert samples[name, (("name", "k8s"), ("namespace", "a"), ("result", "refused"))] == 1


def denial_labels(reason: str, namespace: str = "", name: str = "") -> tuple[tuple[str, str], ...]:
    return (("name", name), ("namespace", namespace), ("reason", reason))


def test_free_text_from_callers_creates_no_new_series() -> None:
    metrics = Metrics()
    for method in ("BREW", "MAKE"):
        metrics.record(replace(REQUEST, info=parse_request(method, "/x", ""), identity=None, bytes_in=0, bytes_out=0))
    metrics.record(replace(REQUEST, info=None, identity=None, bytes_in=0, bytes_out=0))
    labels = (("code", "200"), ("connector", ""), ("verb", "other"))
    assert scrape(metrics)["connector_requests_total", labels] == 3


def test_a_live_connection_is_active_until_it_ends_and_is_not_a_second_request() -> None:
    metrics = Metrics()
    for kind in ("watch", "anything"):
        metrics.record(replace(REQUEST, long_running_kind=kind))
    active = "connector_streams_active"
    assert scrape(metrics)[active, (("connector", "a/k8s"), ("kind", "watch"))] == 1
    metrics.record(replace(REQUEST, event="stream", long_running_kind="watch", cause="cut"))
    samples = scrape(metrics)
    assert samples[active, (("connector", "a/k8s"), ("kind", "watch"))] == 0
    assert samples[active, (("connector", "a/k8s"), ("kind", "other"))] == 1
    assert sum(metrics.requests.values()) == 2
    assert not any(value for (name, _), value in samples.items() if name == "connector_denials_total")


def test_a_cause_in_free_text_is_not_counted_as_a_denial() -> None:
    metrics = Metrics()
    metrics.record(replace(REQUEST, cause="the client closed the connection"))
    assert not metrics.denials


def test_a_deleted_connector_keeps_only_the_series_of_live_connections() -> None:
    metrics = Metrics()
    metrics.set_objects(dict, lambda key: key.name == "other")
    for key in (ObjectKey("a", "k8s"), ObjectKey("a", "other")):
        metrics.record(replace(REQUEST, connector=key, long_running_kind="watch"))
    assert {name for name, labels in scrape(metrics) if ("connector", "a/k8s") in labels} == {
        "connector_streams_active"
    }
    for key in (ObjectKey("a", "k8s"), ObjectKey("a", "other")):
        metrics.record(
            replace(REQUEST, connector=key, event="stream", long_running_kind="watch", bytes_in=0, bytes_out=0)
        )
    assert not any(("connector", "a/k8s") in labels for _, labels in scrape(metrics))
    assert any(("connector", "a/other") in labels for _, labels in scrape(metrics))


def test_gauges_are_read_when_scraped_and_may_be_absent() -> None:
    lost: list[str] = []
    metrics = Metrics(lost_line_count=lambda: len(lost))
    metrics.add_gauge("connector_store_synced", "All lists are in", lambda: 1)
    metrics.add_gauge("connector_ca_expiry_timestamp_seconds", "Until the CA expires", lambda: None)
    metrics.set_objects(lambda: {"Connector": 7}, lambda _: True)
    metrics.token_reviews["granted"] += 1
    metrics.watch_restarts["Secret"] += 1
    lost.append("a line")
    samples = scrape(metrics)
    assert samples["connector_store_synced", ()] == 1
    assert samples["connector_watch_restarts_total", (("kind", "Connector"),)] == 0
    assert samples["connector_store_objects", (("kind", "Connector"),)] == 7
    assert samples["connector_token_reviews_total", (("result", "granted"),)] == 1
    assert samples["connector_watch_restarts_total", (("kind", "Secret"),)] == 1
    assert samples["connector_audit_lines_lost_total", ()] == 1
    assert not any(name == "connector_ca_expiry_timestamp_seconds" for name, _ in samples)


def test_a_scrape_of_many_connectors_is_in_small_pieces() -> None:
    metrics = Metrics()
    keys = [ObjectKey("a", f"k8s-{number}") for number in range(SAMPLES_PER_PIECE + 1)]
    for key in keys:
        for status in (200, 404):
            metrics.record(replace(REQUEST, connector=key, status=status))
    pieces = list(metrics.render())
    assert max(piece.count(b"\n") for piece in pieces) <= SAMPLES_PER_PIECE + 2
    assert b"".join(pieces).count(b"# TYPE connector_requests_total ") == 1
    values = scrape(metrics)
    for key in keys:
        assert values["connector_requests_total", (("code", "404"), ("connector", str(key)), ("verb", "list"))] == 1


def test_connectors_that_come_and_go_between_two_pieces_break_no_scrape() -> None:
    metrics = Metrics()
    deleted: set[ObjectKey] = set()
    metrics.set_objects(dict, lambda key: key not in deleted)
    keys = [ObjectKey("a", f"k8s-{number}") for number in range(SAMPLES_PER_PIECE + 1)]
    for key in keys:
        metrics.record(replace(REQUEST, connector=key))
    pieces = metrics.render()
    first = next(pieces)
    deleted.add(keys[-1])
    scrape(metrics)
    metrics.record(replace(REQUEST, connector=ObjectKey("a", "new")))
    text = b"".join((first, *pieces))
    assert str(keys[0]).encode() in text
    assert str(keys[-1]).encode() not in text
