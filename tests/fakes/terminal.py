"""A program in a pseudo terminal, and the screen that it draws."""

import codecs
import contextlib
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from lab.process import tie_to_parent

ROWS: Final = 50
COLUMNS: Final = 200
TIMEOUT: Final = 120.0
"""Seconds that a program may take to show a text on a busy machine."""
_TOKEN: Final = re.compile(r"\x1b(?:\[([0-9;?]*)([@-~])|[()].|[=>])|([^\x1b]+)", re.DOTALL)
"""An escape sequence of xterm, or text without one."""
_MAX_SEQUENCE: Final = 32


class Screen:
    """Screen of an xterm, for programs that draw with positions, such as those of tcell. It does not scroll."""

    def __init__(self) -> None:
        self._rows = [[" "] * COLUMNS for _ in range(ROWS)]
        self._row = self._column = 0
        self._unread = ""
        self.drawn: set[str] = set()
        """Each line that was ever on the screen."""

    def __str__(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self._rows)

    def write(self, text: str) -> None:
        self._unread += text
        end = 0
        while token := _TOKEN.match(self._unread, end):
            end = token.end()
            parameters, final, characters = token.groups()
            if characters:
                self._draw(characters)
            elif final == "H":
                self._row, self._column = (int(each) - 1 for each in (parameters or "1;1").split(";"))
            elif final == "J":
                self._rows = [[" "] * COLUMNS for _ in range(ROWS)]
        # The rest is the beginning of a sequence.
        self._unread = self._unread[end:]
        assert len(self._unread) < _MAX_SEQUENCE, f"unknown escape sequence: {self._unread[:_MAX_SEQUENCE]!r}"

    def _draw(self, characters: str) -> None:
        row = self._rows[self._row]
        for character in characters:
            if character.isprintable() and self._column < COLUMNS:
                row[self._column] = character
                self._column += 1
        self.drawn.add("".join(row))


def read_to_end(controller: int) -> bytes:
    """Return everything that was written to a terminal that no process has open any more."""
    data = b""
    # The kernel passes the data on in pieces, and reports EIO at the end.
    with contextlib.suppress(OSError):
        while piece := os.read(controller, 65536):
            data += piece
    return data


class Terminal:
    """A running program, whose controlling terminal has `screen`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.screen = Screen()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._controller, terminal = pty.openpty()
        try:
            termios.tcsetwinsize(terminal, (ROWS, COLUMNS))
            self._process = subprocess.Popen(
                tie_to_parent(["setsid", "--ctty", *command]),
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                env={"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environment},
            )
        finally:
            os.close(terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._controller)

    def type(self, keys: str, *expected: str) -> None:
        """Send the keys, and wait until the screen shows all expected texts."""
        os.write(self._controller, keys.encode())
        self.wait_for(*expected)

    def wait_for(self, *expected: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not all(text in str(self.screen) for text in expected):
            ready, _, _ = select.select([self._controller], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"the screen does not show {expected}:\n{self.screen}"
            assert self._read(), f"the program has ended before it showed {expected}:\n{self.screen}"

    def wait_for_end(self) -> None:
        """Read until the program has ended."""
        deadline = time.monotonic() + TIMEOUT
        while select.select([self._controller], [], [], max(0, deadline - time.monotonic()))[0] and self._read():
            pass
        assert self._process.wait(max(0, deadline - time.monotonic())) == 0

    def _read(self) -> bool:
        """Read what the program has written. Return False if it has ended."""
        data = b""
        # The kernel reports EIO when no process has the terminal open.
        with contextlib.suppress(OSError):
            data = os.read(self._controller, 65536)
        self.screen.write(self._decode(data))
        return bool(data)
