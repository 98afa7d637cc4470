"""Audit lines are written in order, one write at a time. A slow reader does not block the event loop."""

import io
import threading

import pytest

from addons.records.audit_writer import AuditWriter
from tests.fakes.waiting import until


class SlowStream(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.go_on.wait(30)
        return super().write(text)


async def test_lines_stay_in_order_while_a_write_runs() -> None:
    stream = SlowStream()
    waiting: list[str] = []
    output = AuditWriter(lambda: stream)

    def flush() -> None:
        if waiting:
            lines = "".join(waiting)
            waiting.clear()
            output.write(lines)

    output.flush = flush
    waiting.append("1")
    output.schedule_flush()
    await until(lambda: not waiting)
    waiting.append("2")
    output.schedule_flush()
    assert stream.getvalue() == ""
    stream.go_on.set()
    await until(lambda: stream.getvalue() == "12")
    output.close()


async def test_pending_lines_are_written_at_close_after_the_running_write() -> None:
    stream = SlowStream()
    waiting = ["2\n"]
    output = AuditWriter(lambda: stream)
    output.flush = lambda: output.write(waiting.pop())
    output.write("1\n")
    output.close()
    assert stream.getvalue() == ""
    stream.go_on.set()
    await until(lambda: stream.getvalue() == "1\n2\n")
    output.close()
    assert waiting == []


class BrokenStream(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.whole = False

    def write(self, text: str) -> int:
        if not self.whole:
            raise BrokenPipeError
        return super().write(text)


async def test_failed_writes_are_counted_and_later_lines_are_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stream = BrokenStream()
    output = AuditWriter(lambda: stream)
    output.write("1\n2\n")
    await until(lambda: output.lost_count == 2)
    assert output.is_failing
    output.write("2\n")
    await until(lambda: output.lost_count == 3)
    assert caplog.messages == ["audit lines cannot be written: BrokenPipeError"]
    stream.whole = True
    output.write("3\n")
    await until(lambda: stream.getvalue() == "3\n" and not output.is_failing)
    output.close()
    assert output.lost_count == 3
