"""Threads that hang delay nothing."""

import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future

import pytest

from connector_controller.threads import DaemonThreadPool

PATIENCE = 30.0


def test_calls_give_their_results_and_errors_and_share_the_threads() -> None:
    threads = DaemonThreadPool(2, "t")
    assert [threads.submit(lambda value: value + 1, each).result(PATIENCE) for each in range(20)] == list(range(1, 21))
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(PATIENCE)
    names = {threads.submit(lambda: threading.current_thread().name).result(PATIENCE) for _ in range(20)}
    assert names <= {"t-1", "t-2"}
    threads.shutdown()
    with pytest.raises(RuntimeError):
        threads.submit(int)


def test_a_call_that_is_cancelled_before_its_turn_does_not_run() -> None:
    threads, go, calls = DaemonThreadPool(1, "t"), threading.Event(), list[int]()
    first = threads.submit(go.wait, PATIENCE)
    second: Future[None] = threads.submit(calls.append, 2)
    assert second.cancel()
    go.set()
    assert first.result(PATIENCE)
    assert threads.submit(lambda: list(calls)).result(PATIENCE) == []
    with pytest.raises(CancelledError):
        second.result(PATIENCE)
    threads.shutdown()


@pytest.mark.slow
def test_a_process_ends_though_a_call_hangs() -> None:
    program = (
        "import threading\n"
        "from connector_controller.threads import DaemonThreadPool\n"
        "threads = DaemonThreadPool(1, 't')\n"
        "threads.submit(threading.Event().wait)\n"
        "threads.shutdown()\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=PATIENCE).returncode == 0
