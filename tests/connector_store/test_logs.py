"""Log lines as text and as JSON, by setting and by destination."""

import io
import json
import logging
import os
from collections.abc import Iterator
from typing import TextIO, cast

import pytest

from connector_store import logs
from connector_store.domain.config.settings import LogFormat
from tests.fakes.writes import RecordingStream, TerminalStream


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """Restore the root logger's handlers after the test."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = [each for each in logger.handlers if each in before]
    logger.setLevel(level)


@pytest.mark.parametrize(
    ("stream", "form", "is_json"),
    [
        pytest.param(io.StringIO, "auto", True, id="elsewhere than on a terminal it is JSON"),
        pytest.param(TerminalStream, "auto", False, id="on a terminal it is text"),
        pytest.param(io.StringIO, "text", False, id="text where it is asked for"),
        pytest.param(TerminalStream, "json", True, id="JSON where it is asked for"),
        pytest.param(io.StringIO, "banana", True, id="what is wrong is told by whoever reads the settings"),
    ],
)
def test_the_format_of_a_line(stream: type[io.StringIO], form: str, is_json: bool) -> None:
    out = stream()
    logs.configure(out, level="INFO", environ={"CONNECTORS_LOG_FORMAT": form})
    logging.getLogger("a.b").info('waits for "%s"', "c")
    line = out.getvalue()
    if is_json:
        entry = json.loads(line)
        assert (entry["level"], entry["logger"], entry["message"]) == ("info", "a.b", 'waits for "c"')
        assert entry["time"].endswith("Z")
    else:
        assert line.endswith(' INFO a.b: waits for "c"\n')


@pytest.mark.parametrize(("form", "first"), [("json", "{"), ("text", "2"), ("auto", "{")])
def test_the_format_changes_when_the_settings_are_read(form: LogFormat, first: str) -> None:
    out = io.StringIO()
    logs.configure(out, level="INFO", environ={"CONNECTORS_LOG_FORMAT": "text"})
    logs.set_format(form)
    logging.getLogger().warning("x")
    assert out.getvalue().startswith(first)


def test_an_error_has_its_traceback_in_the_same_line() -> None:
    out = io.StringIO()
    logs.configure(out, level="INFO", environ={})
    try:
        raise ValueError("so")
    except ValueError:
        logging.getLogger().exception("it failed")
    [line] = out.getvalue().splitlines()
    assert "ValueError: so" in json.loads(line)["exception"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_has_printable_characters_only(form: str) -> None:
    out = io.StringIO()
    logs.configure(out, level="INFO", environ={"CONNECTORS_LOG_FORMAT": form})
    logging.getLogger().warning("role %s", "\x1b\x9b\u202e\nb")
    [line] = out.getvalue().splitlines()
    assert line.isprintable()
    assert line.endswith("role ????b") is (form == "text")


def test_other_handlers_are_not_changed() -> None:
    other = logging.StreamHandler(io.StringIO())
    logging.getLogger().addHandler(other)
    logs.set_format("json")
    assert other.formatter is None


def test_each_line_is_one_write() -> None:
    out = RecordingStream()
    lines = logs.LineBufferedStream(out)
    assert [lines.write(text) for text in ("a", "", "b\n", "\n", "c\nd\ne", "\n")] == [1, 0, 2, 1, 5, 1]
    assert out.pieces == ["ab\n", "\n", "c\nd\n", "e\n"]


@pytest.mark.parametrize("stream", [io.StringIO, TerminalStream])
def test_lines_are_for_whom_the_stream_is(stream: type[io.StringIO]) -> None:
    out = stream()
    assert logs.LineBufferedStream(out).isatty() is out.isatty()


def test_logging_does_not_wait_for_a_slow_reader_and_lost_lines_are_counted() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(reader, "rb", 0) as read, io.TextIOWrapper(os.fdopen(writer, "wb", 0), write_through=True) as out:
        while out.buffer.write(b"." * 4096) == 4096:
            pass
        stream = logs.LineBufferedStream(out)
        logs.configure(cast(TextIO, stream), level="INFO", environ={"CONNECTORS_LOG_FORMAT": "text"})
        for text in ("a\n", "b\nc\n"):
            stream.write(text)
        read.read(1 << 20)
        for text in ("d\n", "e\n"):
            stream.write(text)
        lines = read.read(1 << 20).decode().splitlines()
    assert lines[0].endswith(
        "WARNING connector_store.logs: 3 lines of the log were lost, because its reader was too slow"
    )
    assert lines[1:] == ["d", "e"]
