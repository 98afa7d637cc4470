"""Processes of a benchmark: each runs in its own process group and is measured through /proc."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.ports import Port

TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 180.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Usage of a process and its descendants: CPU seconds so far, CPU seconds in the kernel, resident bytes, open files
    and threads.
    """

    cpu: float
    system: float
    rss: int
    fds: int
    threads: int


class MeasuredProcess:
    """A process with its descendants."""

    def __init__(
        self, args: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, pipes: bool = False
    ) -> None:
        self.log = log
        self.name = Path(args[0]).name
        pipe = subprocess.PIPE if pipes else None
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [str(arg) for arg in args],
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or out,
                stderr=out,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                text=True,
            )

    def usage(self) -> Usage:
        return read_usage(self.popen.pid)

    def send_line(self) -> None:
        """Send an empty line to the standard input, which starts the next step."""
        assert self.popen.stdin
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def read_line(self) -> str:
        """Return the next line of the standard output."""
        assert self.popen.stdout
        line = self.popen.stdout.readline()
        if not line:
            self.popen.wait(STOP_SECONDS)
            raise RuntimeError(f"{self.name} ended: {self.log.read_text(errors='replace')[-2000:]}")
        return line.strip()

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGTERM)
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def wait_for_port(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.popen.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not listen: {self.log.read_text(errors='replace')[-2000:]}")


def read_usage(pid: int) -> Usage:
    """Return the usage of a process and its descendants."""
    pids = list(_process_tree(pid))
    stats = [_read_stat(pid) for pid in pids]
    return Usage(
        cpu=sum(int(field) for stat in stats for field in stat[11:15]) / TICK,
        system=sum(int(field) for stat in stats for field in stat[12:15:2]) / TICK,
        rss=sum(int(stat[21]) for stat in stats) * os.sysconf("SC_PAGE_SIZE"),
        fds=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),  # noqa: PTH208 - counts only, names are not read
        threads=sum(int(stat[17]) for stat in stats),
    )


def free_port() -> int:
    """Return a port that is reserved until this process ends, so that no other program gets it before the server."""
    return Port().number


def _process_tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        children: list[str] = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            children = (task / "children").read_text().split()
        for child in children:
            yield from _process_tree(int(child))


def _read_stat(pid: int) -> list[str]:
    """Return the fields of proc_pid_stat(5) from the third (state) on.

    Fields 11-14 are CPU ticks (user, kernel, and those of children), 17 is threads, 21 is resident pages.
    """
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
