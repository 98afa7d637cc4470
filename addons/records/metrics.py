"""Metrics of the proxy in the Prometheus text format.

The data path only adds to dictionaries on the event loop, without a lock. A scrape builds the metric families in
pieces, between which the event loop serves connections. Labels never contain paths, users or tokens, and their values
are bounded. A Connector is a label value only while it exists, and only for requests of callers who may use it.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from addons.records.record import Record
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.denial import Cause
from connector_store.exposition import SAMPLES_PER_PIECE, render

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of the request duration histogram, in seconds."""
VERBS: Final = frozenset(
    {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy"}
    | {"post", "put", "head", "options"}
)
KINDS: Final = frozenset({"watch", "log", "exec", "attach", "portforward"})
CAUSES: Final = frozenset(get_args(Cause))
"""Values of the label `reason` of denials. The end of a live connection or of a request without a response has a free
text as its cause, which appears only in the audit log."""
TOKEN_RESULTS: Final = ("ok", "refused", "error")
"""Values of the label `result` of token requests."""
_OTHER: Final = "other"


def _label_values(key: object) -> list[str]:
    labels = key if isinstance(key, tuple) else (key,)
    return ["" if label is None else str(label) for label in labels]


def _split_connector(key: tuple[ObjectKey | None, str]) -> list[str]:
    """Return the labels namespace, name and the last one. Alertmanager routes by `namespace`."""
    connector, value = key
    return ["", "", value] if connector is None else [connector.namespace, connector.name, value]


class Metrics(Collector):
    """Collector of all metrics of the proxy."""

    def __init__(self, *, lost_line_count: Callable[[], int] = int) -> None:
        """`lost_line_count` returns the number of audit lines that were not written."""
        self._lost_line_count = lost_line_count
        self.requests: defaultdict[tuple[ObjectKey | None, str, int], int] = defaultdict(int)
        self.denials: defaultdict[tuple[ObjectKey | None, str], int] = defaultdict(int)
        """Denials by Connector and reason. The Connector is None before the caller's access is known."""
        self.live_connections: defaultdict[tuple[ObjectKey, str], int] = defaultdict(int)
        self.bytes: defaultdict[tuple[ObjectKey | None, str], int] = defaultdict(int)
        self.token_reviews: defaultdict[str, int] = defaultdict(int)
        self.token_requests: defaultdict[tuple[ObjectKey | None, str], int] = defaultdict(int)
        """Token requests to targets, by Connector and one of TOKEN_RESULTS."""
        self.watch_restarts: defaultdict[str, int] = defaultdict(int)
        self._durations = [0] * (len(BUCKETS) + 1)
        self._duration_sum = 0.0
        self._gauges: dict[str, tuple[str, Callable[[], float | None]]] = {}
        self._counters: dict[str, tuple[str, Callable[[], float]]] = {}
        self._objects: Callable[[], Mapping[str, int]] = dict
        self._ages: Callable[[], Mapping[str, float]] = dict
        self._pool_discards: Callable[[], Mapping[str, int]] = dict
        self._unserved_count: Callable[[], int] | None = None
        self._unavailable_checks: Callable[[], Mapping[str, int]] = dict
        self._is_current: Callable[[ObjectKey], bool] = lambda _: True

    def record(self, record: Record) -> None:
        """Count `record`, and update the number of live connections. These were counted as requests at their start."""
        connector = record.connector if record.identity else None
        if record.long_running_kind and connector is not None:
            kind = record.long_running_kind if record.long_running_kind in KINDS else _OTHER
            self.live_connections[connector, kind] += 1 if record.event == "request" else -1
        if record.event == "request":
            verb = record.info.verb if record.info else _OTHER
            self.requests[connector, verb if verb in VERBS else _OTHER, record.status] += 1
            self._durations[bisect_left(BUCKETS, record.duration)] += 1
            self._duration_sum += record.duration
        if record.cause in CAUSES and record.event != "stream":
            is_current = connector is not None and self._is_current(connector)
            self.denials[connector if is_current else None, record.cause] += 1
        if record.bytes_in:
            self.bytes[connector, "in"] += record.bytes_in
        if record.bytes_out:
            self.bytes[connector, "out"] += record.bytes_out

    def add_gauge(self, name: str, text: str, read: Callable[[], float | None]) -> None:
        """Add a gauge that each scrape reads. The value None omits it."""
        self._gauges[name] = (text, read)

    def add_counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a counter that each scrape reads. `name` has no `_total`."""
        self._counters[name] = (text, read)

    def set_objects(self, read: Callable[[], Mapping[str, int]], is_current: Callable[[ObjectKey], bool]) -> None:
        """Set the source of connector_store_objects: the number of objects by kind.

        Series of a Connector for which `is_current` returns False are dropped.
        """
        self._objects = read
        self._is_current = is_current

    def set_pool_discards(self, discard_counts: Callable[[], Mapping[str, int]]) -> None:
        """Set the source of connector_kept_connections_dropped_total: the number of connections by reason."""
        self._pool_discards = discard_counts

    def set_unavailable_checks(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Set the source of connector_unavailable_checks_total: the number of checks of callers by kind."""
        self._unavailable_checks = counts

    def set_watches(self, ages: Callable[[], Mapping[str, float]], unserved_count: Callable[[], int]) -> None:
        """Set the sources of connector_watch_age_seconds, by kind, and connector_namespaces_not_served."""
        self._ages = ages
        self._unserved_count = unserved_count

    def collect(self) -> Iterator[Metric]:
        """Yield all metric families. Those with a series for each Connector are in pieces."""
        requests = partial(CounterMetricFamily, "connector_requests", "Requests", labels=("connector", "verb", "code"))
        yield from self._by_connector(requests, self.requests)
        yield self._duration()
        # Denials start at 0. If a series started at 1, `rate` would not show the first denial.
        for cause in CAUSES:
            self.denials.setdefault((None, cause), 0)
        denials = partial(CounterMetricFamily, "connector_denials", "Refusals", labels=("namespace", "name", "reason"))
        yield from self._by_connector(denials, self.denials, _split_connector)
        live_connections = partial(
            GaugeMetricFamily,
            "connector_streams_active",
            "Live connections: watches, logs and sessions",
            labels=("connector", "kind"),
        )
        yield from self._by_connector(live_connections, self.live_connections)
        body_bytes = partial(
            CounterMetricFamily,
            "connector_bytes",
            "Bytes of request and response bodies, and of sessions",
            labels=("connector", "direction"),
        )
        yield from self._by_connector(body_bytes, self.bytes)
        yield _counter("connector_token_reviews", "TokenReviews of callers' tokens", ("result",), self.token_reviews)
        unavailable_checks = self._unavailable_checks()
        yield _counter(
            "connector_unavailable_checks", "Checks of callers without a result", ("kind",), unavailable_checks
        )
        for result in TOKEN_RESULTS:
            self.token_requests.setdefault((None, result), 0)
        token_requests = partial(
            CounterMetricFamily,
            "connector_token_requests",
            "Attempts to get a token of a target",
            labels=("namespace", "name", "result"),
        )
        yield from self._by_connector(token_requests, self.token_requests, _split_connector)
        discard_counts = self._pool_discards()
        yield _counter(
            "connector_kept_connections_dropped",
            "Idle connections to targets that were closed",
            ("reason",),
            discard_counts,
        )
        yield CounterMetricFamily(
            "connector_audit_lines_lost", "Audit lines that were not written", value=self._lost_line_count()
        )
        objects = self._objects()
        restarts = dict.fromkeys(objects, 0) | self.watch_restarts
        yield _counter("connector_watch_restarts", "Watches that were started again", ("kind",), restarts)
        yield _gauge("connector_store_objects", "Objects in the store", ("kind",), objects)
        yield _gauge(
            "connector_watch_age_seconds",
            "Seconds since the oldest watch was in sync with the API server",
            ("kind",),
            self._ages(),
        )
        if self._unserved_count is not None:
            yield GaugeMetricFamily(
                "connector_namespaces_not_served", "Namespaces that cannot be read", value=self._unserved_count()
            )
        for name, (text, count) in self._counters.items():
            yield CounterMetricFamily(name, text, value=count())
        for name, (text, read) in self._gauges.items():
            value = read()
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)

    def render(self) -> Iterator[bytes]:
        """Yield the text of a scrape in pieces."""
        return render(self.collect())

    def _by_connector[L: tuple[Any, ...]](
        self,
        family: Callable[[], CounterMetricFamily | GaugeMetricFamily],
        values: dict[L, int],
        to_labels: Callable[[L], list[str]] = _label_values,
    ) -> Iterator[Metric]:
        """Yield `values` in pieces. Drop the series of deleted Connectors, except those of open live connections."""
        keys = tuple(values)
        for start in range(0, len(keys) or 1, SAMPLES_PER_PIECE):
            piece = family()
            for key in keys[start : start + SAMPLES_PER_PIECE]:
                # Requests change `values` between two pieces, and another scrape drops series.
                value = values.get(key)
                if key[0] is None or self._is_current(key[0]) or (value and values is self.live_connections):
                    piece.add_metric(to_labels(key), value or 0)
                else:
                    values.pop(key, None)
            yield piece

    def _duration(self) -> Metric:
        total, buckets = 0, []
        for bound, count in zip((*BUCKETS, float("inf")), self._durations, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        family = HistogramMetricFamily(
            "connector_request_duration_seconds", "Seconds from the request head to the response head"
        )
        family.add_metric([], buckets, self._duration_sum)
        return family


def _counter[L](name: str, text: str, labels: tuple[str, ...], values: Mapping[L, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(_label_values(key), value)
    return family


def _gauge[L](name: str, text: str, labels: tuple[str, ...], values: Mapping[L, int] | Mapping[L, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(_label_values(key), value)
    return family
