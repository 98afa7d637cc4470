"""Messages are written as they are read."""

from addons.http1.messages import Invalid, Until, body_of, render_chunk, render_head, render_last_chunk
from connector_store.domain.headers import Fields


def test_a_head_ends_with_an_empty_line() -> None:
    head = render_head(b"GET /a HTTP/1.1", [(b"Host", b"h"), (b"X", b"")])
    assert head == b"GET /a HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n"


def test_chunks_have_their_size_in_hex_and_trailers_come_last() -> None:
    assert render_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert render_last_chunk([]) == b"0\r\n\r\n"
    assert render_last_chunk([(b"T", b"1")]) == b"0\r\nT: 1\r\n\r\n"


def test_fields_say_how_a_body_is_framed() -> None:
    assert body_of(Fields([(b"Content-Length", b"5")])) == 5
    assert body_of(Fields([(b"transfer-encoding", b"Chunked")])) is Until.LAST_CHUNK
    assert body_of(Fields()) is None
    assert isinstance(body_of(Fields([(b"Content-Length", b"5"), (b"Content-Length", b"5")])), Invalid)
