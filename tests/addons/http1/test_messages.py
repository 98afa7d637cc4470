"""Rendering of messages."""

from addons.http1.messages import render_chunk, render_head, render_last_chunk


def test_a_head_ends_with_an_empty_line() -> None:
    head = render_head(b"GET /a HTTP/1.1", [(b"Host", b"h"), (b"X", b"")])
    assert head == b"GET /a HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n"


def test_chunks_have_their_size_in_hex_and_trailers_come_last() -> None:
    assert render_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert render_last_chunk([]) == b"0\r\n\r\n"
    assert render_last_chunk([(b"T", b"1")]) == b"0\r\nT: 1\r\n\r\n"
