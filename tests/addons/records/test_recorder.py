"""One record is an audit line and a count."""

import pytest

from addons.records.audit import AuditLog
from addons.records.metrics import Metrics
from addons.records.record import Record
from addons.records.recorder import Recorder
from connector_store.domain.names import ObjectKey

KEY = ObjectKey("n", "a")


def test_a_record_is_written_and_counted() -> None:
    lines: list[str] = []
    audit = AuditLog(lines.append, now=lambda: 0.0, commands=True, wake=lambda: None)
    metrics = Metrics()
    recorder = Recorder(audit, metrics)
    recorder.record(
        Record(event="connect", connector=KEY, status=407, source_ip="10.0.0.1", duration=0.1, cause="token")
    )
    audit.flush()
    assert '"status":407' in lines[0]
    assert metrics.denials["token"] == 1


@pytest.mark.parametrize("full", [True, False])
def test_says_whether_anything_may_begin(full: bool) -> None:
    audit = AuditLog(lambda _: None, now=lambda: 0.0, commands=True, wake=lambda: None)
    assert Recorder(audit, Metrics(), full=lambda: full).full() is full
    assert not Recorder(audit, Metrics()).full()


def test_streams_are_counted_while_they_live() -> None:
    metrics = Metrics()
    recorder = Recorder(AuditLog(lambda _: None, now=lambda: 0.0, commands=True, wake=lambda: None), metrics)
    recorder.stream_began(KEY, "watch")
    assert metrics.streams[KEY, "watch"] == 1
    recorder.stream_ended(KEY, "watch")
    assert metrics.streams[KEY, "watch"] == 0
