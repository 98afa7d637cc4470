"""Supervision of one command: signals that this process receives are passed on, and the exit code is the command's.

The signals stay blocked, and `sigtimedwait` reads them one at a time, so that no handler interrupts other code.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Final

FORWARDED: Final = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)
"""Signals that are passed on to the command."""
STOP_TIMEOUT: Final = 10.0
"""Seconds for a helper program to stop before it is killed."""
EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NOT_FOUND: Final = 127
"""Exit codes of a shell for a command that cannot be started."""
_SIGNAL_EXIT: Final = 128
"""A shell adds this to the number of the signal that ended a command."""
_SI_KERNEL: Final = 0x80
"""`si_code` of a signal from the terminal, which the command receives too (linux/siginfo.h)."""
_PR_SET_PDEATHSIG: Final = 1
"""Option of prctl(2): the signal that this process receives when its parent dies."""


class InterruptedStartError(Exception):
    """A signal arrived before the command was started. `exit_code` is the exit code for it."""

    def __init__(self, number: int) -> None:
        self.exit_code = _SIGNAL_EXIT + number


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """Block the signals that `pause` and `wait` read."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def pause(seconds: float) -> None:
    """Wait before the command is started. Raises InterruptedStartError for a signal."""
    received = _receive(FORWARDED, seconds)
    if received is not None:
        raise InterruptedStartError(received.si_signo)


def start_command(words: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start the user's command in this terminal."""
    return subprocess.Popen(words, env=dict(environment), preexec_fn=_unblock_signals)  # noqa: S603 - one thread


def start_helper(words: Sequence[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start a program that ^C does not reach, and that the kernel kills if this process is killed."""
    parent = os.getpid()
    return subprocess.Popen(  # noqa: S603 - one thread; a program of this installation
        words,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=lambda: _die_with(parent),
    )


def wait(command: "subprocess.Popen[bytes]", seconds: float, tick: Callable[[], float]) -> int:
    """Return the exit code of `command`, and pass signals on until then.

    `tick` is called after `seconds`, and again after the seconds that it returned.
    """
    next_tick = time.monotonic() + seconds
    while (code := command.poll()) is None:
        received = _receive(FORWARDED | {signal.SIGCHLD}, max(next_tick - time.monotonic(), 0))
        if received is None:
            next_tick = time.monotonic() + tick()
        elif received.si_signo != signal.SIGCHLD and received.si_code != _SI_KERNEL:
            command.send_signal(received.si_signo)
    return code if code >= 0 else _SIGNAL_EXIT - code


def stop_helper(helper: "subprocess.Popen[bytes]") -> None:
    """Stop a helper at once: with SIGINT, and after STOP_TIMEOUT with SIGKILL."""
    if helper.poll() is None:
        helper.send_signal(signal.SIGINT)
    try:
        helper.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        helper.kill()
        helper.wait()


def start_failure_code(error: OSError) -> int:
    """Return the exit code of a shell for a command that cannot be started."""
    return EXIT_NOT_FOUND if isinstance(error, FileNotFoundError) else EXIT_NOT_EXECUTABLE


def _receive(numbers: frozenset[signal.Signals], seconds: float) -> signal.struct_siginfo | None:
    """Return the next of the signals, or None after `seconds`.

    If this process was stopped and continues after that time, CPython returns a result that no signal has filled in.
    """
    received = signal.sigtimedwait(numbers, seconds)
    return received if received is not None and received.si_signo in numbers else None


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED | {signal.SIGCHLD})


def _die_with(parent: int) -> None:
    _unblock_signals()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl
        os._exit(1)
