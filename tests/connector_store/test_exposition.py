"""The text of a scrape, in pieces."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from connector_store.exposition import SAMPLES_PER_PIECE, render


def test_the_pieces_are_the_text_of_the_library() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("connector_expiry", 'With a "quote"', ["connector"], registry=registry)
    for number in range(2 * SAMPLES_PER_PIECE + 1):
        gauge.labels(f"team/k8s-{number}").set(number)
    Counter("connector_probes", "Probes", ["result"], registry=registry).labels("ready").inc()
    Gauge("connector_empty", "Without a series", ["connector"], registry=registry)
    pieces = list(render(registry.collect()))
    assert len(pieces) == 5
    assert b"".join(pieces) == generate_latest(registry)
