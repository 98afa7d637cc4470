"""Audit lines reach a stream in order, one write at a time, and a slow reader keeps nobody waiting."""

import io
import threading

from addons.output import Output
from tests.fakes.proxy import until


class SlowStream(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def write(self, text: str) -> int:
        self.go_on.wait(30)
        return super().write(text)


async def test_lines_wait_while_one_write_runs_and_come_in_order() -> None:
    stream = SlowStream()
    waiting: list[str] = []
    output = Output(lambda: stream)

    def flush() -> None:
        if waiting:
            lines = "".join(waiting)
            waiting.clear()
            output.write(lines)

    output.flush = flush
    waiting.append("1")
    output.wake()
    await until(lambda: not waiting)
    waiting.append("2")
    output.wake()
    assert stream.getvalue() == ""
    stream.go_on.set()
    await until(lambda: stream.getvalue() == "12")
    output.close()
