"""Text of a scrape in the Prometheus exposition format 0.0.4, in pieces that are short enough for an event loop."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

SAMPLES_PER_PIECE: Final = 500
"""Maximum number of samples in a piece. Formatting them takes about 3 ms."""


class _Family(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def render(metrics: Iterable[Metric]) -> Iterator[bytes]:
    """Yield the text of each metric. Metrics that follow each other and have the same name are one family.

    Gauges are split. Other types with more than SAMPLES_PER_PIECE samples must be split by their collector.
    """
    previous = ""
    for metric in metrics:
        for piece in _split(metric):
            text = generate_latest(_Family(piece))
            # The lines HELP and TYPE must not be repeated.
            yield text if metric.name != previous else text.split(b"\n", 2)[2]
            previous = metric.name


def _split(metric: Metric) -> Iterator[Metric]:
    if metric.type != "gauge":
        yield metric
        return
    for start in range(0, len(metric.samples) or 1, SAMPLES_PER_PIECE):
        piece = Metric(metric.name, metric.documentation, metric.type)
        piece.samples = metric.samples[start : start + SAMPLES_PER_PIECE]
        yield piece
