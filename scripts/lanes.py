"""Run commands, one after the other or in lanes at the same time, and stop all of them on a signal.

A lane is a coroutine that runs commands and returns True if all of them succeeded. Each command has a process group of
its own, and waits while MAX_COMMANDS run. The output of a lane is in FOLDER/LANE.log; it is printed when the lane has
ended.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

sys.path.append(str(Path(__file__).parents[1]))
from lab.progress import CLEAR_LINE, REDRAW_INTERVAL, render_bar

STOP_TIMEOUT: Final = 30.0
"""Seconds between SIGTERM and SIGKILL. A node needs up to 20 to remove its namespaces and cgroups."""
PROGRESS_INTERVAL: Final = 60.0
"""Seconds between two progress reports."""
MAX_COMMANDS: Final = max(3, os.cpu_count() or 0)
"""Commands of all lanes that run at the same time. More of them make a small machine too slow for clients' timeouts."""
INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit code after SIGINT, SIGTERM or SIGHUP."""
_TEST_RESULTS: Final = re.compile(rb"^[.sxXFE]+", re.MULTILINE)
"""The characters that `pytest -q` prints, one for each test."""


async def run_command(*command: str | Path, output: IO[bytes] | None = None) -> int:
    """Run a command and return its exit code. Without `output` it writes to the terminal.

    When the caller is cancelled, the process group of the command gets SIGTERM. On the terminal it gets the signal that
    this program got, so that pytest prints its summary after Ctrl-C. After STOP_TIMEOUT the group is killed.
    """
    sys.stdout.flush()
    process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, start_new_session=True)
    try:
        code = await process.wait()
    except asyncio.CancelledError as error:
        await _stop(process, *([] if output else error.args))
        raise
    return code if code >= 0 else 128 - code


async def _stop(process: asyncio.subprocess.Process, number: signal.Signals = signal.SIGTERM) -> None:
    _signal_group(process.pid, number)
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
    except TimeoutError:
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    name: str
    log: Path
    places: asyncio.Semaphore
    """Shared by all lanes; a command holds one."""

    async def run(self, *command: str | Path) -> bool:
        """Run a command with its output in the log, and return True if it succeeded."""
        with self.log.open("ab") as log:
            async with self.places:
                return await run_command(*command, output=log) == 0

    def write(self, message: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{message}\n")


LaneFunction = Callable[[Lane], Coroutine[None, None, bool]]


@dataclass(slots=True)
class Prerequisite:
    """A result of one lane that other lanes wait for."""

    name: str
    _done: asyncio.Event = field(default_factory=asyncio.Event)
    _succeeded: bool = False

    async def provide(self, work: Awaitable[bool]) -> bool:
        """Wait for `work`, and let the other lanes continue, whatever happens to it."""
        try:
            self._succeeded = await work
        finally:
            self._done.set()
        return self._succeeded

    async def wait(self, lane: Lane) -> bool:
        """Wait until `provide` has ended, and return True if it succeeded."""
        await self._done.wait()
        if not self._succeeded:
            lane.write(f"not run: {self.name} failed")
        return self._succeeded


async def run_lanes(
    lanes: Mapping[str, LaneFunction],
    folder: Path,
    *,
    max_commands: int = MAX_COMMANDS,
    progress_interval: float = PROGRESS_INTERVAL,
) -> list[str]:
    """Run the lanes at the same time, print the output of each, and return the names of those that failed."""
    logs = _create_logs(folder, lanes)
    failed = []
    places = asyncio.Semaphore(max_commands)
    async with asyncio.TaskGroup() as group:
        tasks = {
            name: group.create_task(work(Lane(name=name, log=logs[name], places=places)))
            for name, work in lanes.items()
        }
        progress = Progress(folder, logs)
        report = group.create_task(progress.report(progress_interval))
        for name, task in tasks.items():
            if not await task:
                failed.append(name)
            clear_line()
            print_heading(name)
            sys.stdout.buffer.write(logs[name].read_bytes())
            sys.stdout.flush()
        report.cancel()
    if not failed:
        progress.store_totals()
    return failed


def _create_logs(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    logs = {name: folder / f"{name}.log" for name in names}
    for log in logs.values():
        log.write_bytes(b"")
    return logs


class Progress:
    """Number of tests that the lanes have run, compared with the last complete run.

    On a terminal it is one line that is drawn again. Elsewhere each report is a line for each lane.
    """

    def __init__(self, folder: Path, logs: Mapping[str, Path], now: Callable[[], float] = time.monotonic) -> None:
        self._totals = folder / "tests-of-the-last-run.json"
        self._logs = logs
        self._now = now
        self._started_at = now()

    def counts(self) -> dict[str, int]:
        return {name: sum(map(len, _TEST_RESULTS.findall(log.read_bytes()))) for name, log in self._logs.items()}

    def store_totals(self) -> None:
        """Store the numbers of tests of a run in which no lane failed."""
        self._totals.write_text(json.dumps(self.counts()))

    def render_lines(self) -> str:
        return "".join(f"  {name}: {count} tests\n" for name, count in self.counts().items() if count)

    def render_bar(self) -> str:
        """Return `[####....] 870 of 2079 tests, 2 min left`. The last run must have had the same lanes."""
        count = sum(self.counts().values())
        total = sum(self._read_totals().get(name, 0) for name in self._logs)
        if not 0 < count <= total:
            return f"  {count} tests"
        return f"  {render_bar(count, total, self._now() - self._started_at, f'{count} of {total} tests')}"

    def _read_totals(self) -> dict[str, int]:
        try:
            totals: dict[str, int] = json.loads(self._totals.read_text())
        except (OSError, ValueError):
            return {}
        return totals

    async def report(self, interval: float) -> None:
        """Report again and again, until cancelled."""
        is_terminal = sys.stdout.isatty()
        while True:
            await asyncio.sleep(REDRAW_INTERVAL if is_terminal else interval)
            sys.stdout.write(f"{CLEAR_LINE}{self.render_bar()}" if is_terminal else self.render_lines())
            sys.stdout.flush()


def clear_line() -> None:
    """Remove the line of the progress from a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(CLEAR_LINE)


def print_heading(text: str) -> None:
    sys.stdout.write(f"\n== {text}\n")
    sys.stdout.flush()


def run_until_signal(work: Coroutine[None, None, int]) -> int:
    """Run `work` and return its exit code. SIGINT, SIGTERM and SIGHUP stop it, with all commands that it runs."""

    async def run() -> int:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, _cancel_once, task, number)
        return INTERRUPTED if task.cancelled() else task.result()

    return asyncio.run(run())


def _cancel_once(task: asyncio.Task[int], number: signal.Signals) -> None:
    """Cancel the task. A second signal must not interrupt the stopping of its commands."""
    if not task.cancelling():
        task.cancel(number)
