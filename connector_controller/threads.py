"""Thread pool for calls that may hang. The event loop and the end of the process do not wait for its threads.

The interpreter joins the threads of `concurrent.futures.ThreadPoolExecutor` when it ends. A name server that does not
respond blocks getaddrinfo for half a minute.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any


class DaemonThreadPool(Executor):
    """Pool of at most `max_threads` threads, started on demand. Further calls wait in order."""

    def __init__(self, max_threads: int, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._thread_count = 0
        self._closed = False

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submit a call. Raises RuntimeError after `shutdown`. Call it on one thread only, such as the event loop's."""
        if self._closed:
            raise RuntimeError("the thread pool is shut down")
        future: Future[T] = Future()
        self._calls.put(_Call(future, lambda: fn(*args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._thread_count < self._max_threads:
            self._thread_count += 1
            threading.Thread(target=self._run_calls, name=f"{self._name}-{self._thread_count}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End each thread after its current call. `wait` and `cancel_futures` have no effect."""
        self._closed = True
        for _ in range(self._thread_count):
            self._calls.put(None)

    def _run_calls(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            self._idle.release()


class _Call:
    def __init__(self, future: Future[Any], function: Callable[[], Any]) -> None:
        self._future = future
        self._function = function

    def run(self) -> None:
        if not self._future.set_running_or_notify_cancel():
            return
        try:
            result = self._function()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
