"""Chunked coding: any split gives the same content, and ambiguous input is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.http1.chunked import MAX_SIZE_LINE, ChunkedReader


def read(data: bytes, cuts: list[int] | None = None, *, max_trailers: int = 1000) -> tuple[bytes, ChunkedReader]:
    reader = ChunkedReader(max_trailers=max_trailers)
    content = b""
    edges = [0, *sorted({min(cut, len(data)) for cut in cuts or []}), len(data)]
    for start, end in itertools.pairwise(edges):
        if start == end:
            continue
        if reader.is_complete:
            reader.trailing_data += data[start:end]
        else:
            content += reader.receive(data[start:end])
    return content, reader


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    extension=st.sampled_from([b"", b";a", b";a=b", b' ; a="q;"']),
    trailers=st.lists(st.sampled_from([(b"A", b"1"), (b"x-b", b"two words")]), max_size=2),
    rest=st.binary(max_size=20),
    cuts=st.lists(st.integers(0, 2500), max_size=20),
)
def test_any_split_of_any_body_gives_its_content(
    chunks: list[bytes], extension: bytes, trailers: list[tuple[bytes, bytes]], rest: bytes, cuts: list[int]
) -> None:
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n"
    data += b"".join(b"%b: %b\r\n" % trailer for trailer in trailers) + b"\r\n" + rest
    content, reader = read(data, cuts)
    assert content == b"".join(chunks)
    assert (reader.is_complete, reader.trailing_data) == (True, rest)
    assert reader.trailers == b"".join(b"%b: %b\r\n" % trailer for trailer in trailers) + b"\r\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"+3\r\nabc\r\n", id="a sign"),
        pytest.param(b"-3\r\nabc\r\n", id="a negative size"),
        pytest.param(b"0x3\r\nabc\r\n", id="a prefix"),
        pytest.param(b" 3\r\nabc\r\n", id="a space before the size"),
        pytest.param(b"3 \r\nabc\r\n", id="a space after the size"),
        pytest.param(b"\r\nabc\r\n", id="no size"),
        pytest.param(b"3_0\r\nabc\r\n", id="an underscore"),
        pytest.param(b"3\nabc\r\n", id="a bare LF after the size"),
        pytest.param(b"3;a\nabc\r\n", id="a bare LF after an extension"),
        pytest.param(b"3;a\rb\r\nabc\r\n", id="a CR in an extension"),
        pytest.param(b"3;\x00\r\nabc\r\n", id="a NUL in an extension"),
        pytest.param(b"3\r\nabcd\r\n", id="more content than the size says"),
        pytest.param(b"3\r\nabc\n0\r\n\r\n", id="a bare LF after the content"),
        pytest.param(b"1" + b"0" * 16 + b"\r\n", id="a size that overflows 64 bits"),
        pytest.param(b"f" * 16 + b"\r\n", id="a size that is negative in 64 bits"),
        pytest.param(b"3;" + b"a" * MAX_SIZE_LINE, id="an endless extension"),
        pytest.param(b"3;" + b"a" * (MAX_SIZE_LINE - 3) + b"\r\nabc\r\n", id="a line that is a byte too long"),
        pytest.param(b"0\r\nA: " + b"b" * 2000, id="endless trailers"),
    ],
)
def test_an_ambiguous_body_is_an_error(data: bytes) -> None:
    for cuts in ([], list(range(len(data)))):
        with pytest.raises(ValueError, match=r"."):
            read(data, cuts)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"0" * 14 + b"3", id="as many digits as are allowed"),
        pytest.param(b"3;", id="an empty extension"),
        pytest.param(b"3;" + b"a" * (MAX_SIZE_LINE - 4), id="as long as is allowed"),
    ],
)
def test_sizes_at_their_limits(line: bytes) -> None:
    for cuts in ([], list(range(len(line) + 20))):
        content, reader = read(line + b"\r\nabc\r\n0\r\n\r\n", cuts)
        assert content == b"abc"
        assert reader.is_complete


def test_data_within_a_chunk_is_returned_without_a_copy() -> None:
    reader = ChunkedReader(max_trailers=100)
    reader.receive(b"ff\r\na")
    piece = b"b" * 100
    assert reader.receive(piece) is piece


def test_is_between_chunks_is_false_within_a_chunk() -> None:
    reader = ChunkedReader(max_trailers=100)
    assert reader.is_between_chunks
    for piece in (b"1", b"\r\n", b"a", b"\r"):
        reader.receive(piece)
        assert not reader.is_between_chunks
    reader.receive(b"\n")
    assert reader.is_between_chunks
