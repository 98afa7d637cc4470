"""Supervision of a command: signals, exit codes, and helper programs that do not outlive it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectorctl import supervision
from lab.waiting import wait_until

NEVER = 3600.0


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    with supervision.blocked_signals():
        yield


def no_tick() -> float:
    raise AssertionError("called too early")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 7", 7, id="a failure"),
        pytest.param("kill -KILL $$", 137, id="killed"),
        pytest.param("kill -TERM $$", 143, id="ended by a signal"),
        pytest.param("kill -TERM $PPID; exec sleep 60", 143, id="a signal of another process is passed on"),
        pytest.param("trap 'exit 5' INT; kill -INT $PPID; while :; do sleep 0.01; done", 5, id="a handled signal"),
    ],
)
def test_the_exit_code_is_that_of_the_command(script: str, code: int) -> None:
    """In a process of one thread, as the command line is: a signal goes to any thread that does not block it.

    A job that a shell runs in the background ignores SIGINT, and so do its children: also the tests may be one.
    """
    program = "\n".join([
        "import os, signal, sys",
        "from connectorctl import supervision",
        "signal.signal(signal.SIGINT, signal.SIG_DFL)",
        "with supervision.blocked_signals():",
        "    process = supervision.start_command(['sh', '-c', sys.argv[1]], os.environ)",
        "    print(supervision.wait(process, 3600.0, lambda: 3600.0))",
    ])  # fmt: skip
    result = subprocess.run([sys.executable, "-c", program, script], capture_output=True, text=True, timeout=180)
    assert (result.stdout, result.stderr) == (f"{code}\n", "")


@pytest.mark.slow
def test_the_tick_is_called_until_the_command_ends() -> None:
    process = supervision.start_command(["sleep", "60"], os.environ | {"A": "b"})
    calls: list[float] = []

    def tick() -> float:
        calls.append(time.monotonic())
        if len(calls) == 3:
            process.terminate()
            return NEVER
        return 0.0

    assert supervision.wait(process, 0.0, tick) == 143
    assert len(calls) == 3


def test_a_signal_before_the_start_is_reported() -> None:
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(supervision.InterruptedStartError) as error:
        supervision.pause(NEVER)
    assert error.value.exit_code == 143


def test_a_pause_without_a_signal_ends() -> None:
    supervision.pause(0.0)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sigtimedwait` returns what CPython returns in a process that was stopped and continues after the time."""
    nothing = signal.struct_siginfo((0, -2139258368, 0, 1, 0, -2133783891, 1))
    monkeypatch.setattr(signal, "sigtimedwait", lambda *_: nothing)


def test_a_pause_in_which_the_process_was_stopped_ends(stopped: None) -> None:
    supervision.pause(0.0)


@pytest.mark.slow
def test_the_tick_is_called_after_the_process_was_stopped(stopped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    process = supervision.start_command(["sleep", "600"], os.environ)
    sent: list[int] = []
    monkeypatch.setattr(process, "send_signal", sent.append)

    def tick() -> float:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return NEVER

    assert supervision.wait(process, NEVER, tick) == 137
    assert sent == []


@pytest.mark.parametrize(("error", "code"), [(FileNotFoundError(), 127), (PermissionError(), 126)])
def test_a_command_that_cannot_start_has_a_shells_code(error: OSError, code: int) -> None:
    assert supervision.start_failure_code(error) == code


@pytest.mark.slow
@pytest.mark.parametrize("trap", ["", "trap '' INT; "], ids=["it ends at once", "it ignores the signal"])
def test_a_helper_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trap: str) -> None:
    monkeypatch.setattr(supervision, "STOP_TIMEOUT", 0.2)
    script = f"{trap}echo ready; while :; do sleep 0.01; done"
    with (tmp_path / "log").open("wb") as log:
        helper = supervision.start_helper(["sh", "-c", script], log)
    wait_until(lambda: (tmp_path / "log").read_text() == "ready\n", "the helper")
    supervision.stop_helper(helper)
    assert helper.returncode is not None
    supervision.stop_helper(helper)


@pytest.mark.slow
def test_a_helper_dies_with_a_process_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, os, signal; from connectorctl import supervision\n"
        "helper = supervision.start_helper(['sleep', '600'], open(sys.argv[1], 'wb'))\n"
        "print(helper.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path / "log"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    wait_until(lambda: not is_running(pid), "the end of the helper")


def is_running(pid: int) -> bool:
    """Return True if the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, or before it is read
        return False
