"""A child process with a log file. It cannot outlive the process that started it."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.waiting import attempt, sleep_before_retry, wait_until

STOP_GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL."""


class ProcessFailedError(RuntimeError):
    """A program that a test started has ended or is not ready; the message has the end of its log."""


def tie_to_parent(command: Sequence[str]) -> list[str]:
    """Return the command such that the kernel kills it when its parent dies (Linux with util-linux)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv else list(command)


def complete_lines(log: Path) -> list[str]:
    """Return the lines of a log that a program may be writing, without one that is not whole yet."""
    return log.read_text(errors="replace").rpartition("\n")[0].splitlines()


def environment_without_proxies() -> dict[str, str]:
    """Return the environment without proxies, which must not be used for the addresses of tests."""
    return {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}


class Startable(ABC):
    """Context manager that starts an object and closes it at the end, also if it started only in part."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Process:
    """A program that can be started, stopped and restarted with the same arguments.

    The kernel kills the child when the *thread* that started it ends (PR_SET_PDEATHSIG), so do not start it in
    asyncio.to_thread.
    """

    def __init__(self, command: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] = {}) -> None:
        self.command = [str(part) for part in command]
        self.name = Path(self.command[0]).name
        self.log = log
        self._environment = dict(environment)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child.pid

    @property
    def resident_kb(self) -> int:
        """Resident memory in kB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                tie_to_parent(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment_without_proxies() | self._environment,
                start_new_session=True,
            )

    def _end(self, number: signal.Signals) -> None:
        self.signal(signal.SIGCONT)
        self.signal(number)
        if not self._wait(STOP_GRACE):
            self.kill()

    def signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def pause(self) -> None:
        """Send SIGSTOP, and wait until all threads have stopped. On a busy machine they may still respond before."""
        self.signal(signal.SIGSTOP)
        wait_until(self._is_stopped, f"{self.name} to stop")

    def _is_stopped(self) -> bool:
        """Return True if all threads have stopped (proc_pid_stat(5)). A thread may end during the check."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        with contextlib.suppress(OSError):
            return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)
        return False

    def kill(self) -> None:
        """Send SIGKILL, which also ends a paused process."""
        self.signal(signal.SIGKILL)
        self._wait(None)

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after STOP_GRACE."""
        self._end(signal.SIGTERM)

    def interrupt(self) -> None:
        """Send SIGINT, and SIGKILL after STOP_GRACE."""
        self._end(signal.SIGINT)

    def wait(self, timeout: float) -> int:
        """Wait until the program ends, and return its exit code. Raise TimeoutExpired after `timeout` seconds."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child.wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        if self._child is None:
            return True
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_until(self, condition: Callable[[], bool], *, timeout: float) -> None:
        """Wait until the condition is true. A condition that raises is checked again, as one that is false.

        Raise ProcessFailedError with the end of the log if the process ends or `timeout` seconds have passed. The last
        error of the condition is its cause, but an AssertionError is raised at once (`attempt`).
        """
        started_at = time.monotonic()
        while True:
            # Read before the condition, which may become true as the process ends.
            was_running = self.is_running
            is_true, failure = attempt(condition)
            if is_true:
                return
            if not was_running:
                raise ProcessFailedError(f"{self.name} ended early:\n{self.tail()}") from failure
            if time.monotonic() > started_at + timeout:
                raise ProcessFailedError(f"{self.name} is not ready after {timeout:.0f} s:\n{self.tail()}") from failure
            sleep_before_retry(started_at)

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
