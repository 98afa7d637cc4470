"""Format of a program's log lines: text for people, or one JSON object a line for programs.

logs.configure(sys.stderr, level="INFO", environ=os.environ)   first, with the format that is known then
logs.set_format(settings.log_format)                           when the settings have been read
"""

import io
import json
import logging
import select
from collections.abc import Callable, Mapping
from copy import copy
from datetime import UTC, datetime
from typing import IO, Final, TextIO

from connector_store.domain.base.printable import printable
from connector_store.domain.config.settings import LogFormat, environment_name, parse_log_format

logger = logging.getLogger(__name__)

TEXT_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
WRITABLE_TIMEOUT_MS: Final = 100
"""Milliseconds to wait until a pipe is writable. While lines are being lost, no line waits."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class PrintableFormatter(logging.Formatter):
    """Formatter that gives `text` messages of one line, in printable characters."""

    def __init__(self, text: logging.Formatter) -> None:
        super().__init__()
        self._text = text

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if not message.isprintable():
            record = copy(record)
            record.msg, record.args = printable(message), None
        return self._text.format(record)


class JsonFormatter(logging.Formatter):
    """Formatter for JSON: `time` (RFC 3339, UTC), `level`, `logger`, `message`, and `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        timestamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": timestamp.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


def make_formatter(log_format: LogFormat, stream: IO[str], text: logging.Formatter) -> logging.Formatter:
    """Return `text` for printable characters, or a JSON formatter. `auto` means text if `stream` is a terminal."""
    is_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    return PrintableFormatter(text) if is_text else JsonFormatter()


class LineBufferedStream(io.TextIOBase):
    """Stream that writes each line to `stream` in one write.

    `print` makes two writes for a line, and another thread's output may come between them. A slow reader does not block
    the program for long: lines that a pipe cannot accept in time are lost, and a later line says how many.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._partial_line = ""
        self._is_writable = _make_writable_check(stream)
        self._lost_count = 0

    def write(self, text: str) -> int:
        complete, newline, partial = (self._partial_line + text).rpartition("\n")
        self._partial_line = partial
        if newline:
            self._write_lines(complete + newline)
        return len(text)

    def _write_lines(self, lines: str) -> None:
        if not self._is_writable(0 if self._lost_count else WRITABLE_TIMEOUT_MS):
            self._lost_count += lines.count("\n")
            return
        lost_count, self._lost_count = self._lost_count, 0
        if lost_count:
            logger.warning("%d lines of the log were lost, because its reader was too slow", lost_count)
        self._stream.write(lines)

    def isatty(self) -> bool:
        return self._stream.isatty()


def _make_writable_check(stream: IO[str]) -> Callable[[int], bool]:
    """Return a function that waits some milliseconds and returns True if `stream` accepts a line.

    A stream without a file descriptor always accepts a line.
    """
    try:
        descriptor = stream.fileno()
    except OSError:
        return lambda _: True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return lambda milliseconds: bool(poll.poll(milliseconds))


class _Handler(logging.StreamHandler[TextIO]):
    """Our own handler, which `set_format` finds among the root logger's handlers."""


def initial_format(environ: Mapping[str, str], explicit: Mapping[str, str] = {}) -> LogFormat:
    """Return the format to use before the settings are read. An invalid value means `auto` until they report it."""
    key = "log-format"
    try:
        return parse_log_format(explicit.get(key) or environ.get(environment_name(key)) or "auto")
    except ValueError:
        return "auto"


def configure(stream: TextIO, *, level: str, environ: Mapping[str, str]) -> None:
    """Log to `stream`, in the format that `environ` names."""
    handler = _Handler(stream)
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(handler)
    handler.setFormatter(make_formatter(initial_format(environ), stream, logging.Formatter(TEXT_FORMAT)))


def set_format(log_format: LogFormat) -> None:
    """Change the format of the log. Without `configure` before, this does nothing."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.setFormatter(make_formatter(log_format, handler.stream, logging.Formatter(TEXT_FORMAT)))
