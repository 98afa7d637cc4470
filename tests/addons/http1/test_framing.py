"""Any split of messages gives the same events, and an ambiguous message is invalid in any split."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.http1.framing import MAX_CACHED_HEADERS, RequestReader, ResponseReader, parse_body_framing, parse_headers
from addons.http1.messages import (
    BodyEnd,
    EndOfMessage,
    InvalidMessage,
    MessageEvent,
    RequestHead,
    ResponseHead,
    render_chunk,
    render_last_chunk,
)
from connector_store.domain.base.headers import Headers

MAX = 4096
Reader = RequestReader | ResponseReader


def feed(reader: Reader, data: bytes, cuts: list[int] | None = None, *, eof: bool = False) -> list[MessageEvent]:
    """Return the events of all messages in `data`, with adjacent body pieces joined."""
    events: list[MessageEvent] = []
    edges = [0, *sorted({cut for cut in cuts or [] if cut < len(data)}), len(data)]

    def collect(messages: list[MessageEvent]) -> None:
        for event in messages:
            if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                events[-1] += event
            else:
                events.append(event)
        if messages and isinstance(messages[-1], EndOfMessage) and isinstance(reader, RequestReader):
            collect(reader.next_message() or [])

    for start, end in itertools.pairwise(edges):
        collect(reader.receive(data[start:end]))
    if eof:
        collect(reader.receive_eof())
    return events


def requests(data: bytes, cuts: list[int] | None = None) -> list[MessageEvent]:
    return feed(RequestReader(max_head=MAX), data, cuts)


def responses(
    data: bytes, cuts: list[int] | None = None, *, method: bytes = b"GET", eof: bool = False
) -> list[MessageEvent]:
    return feed(ResponseReader(max_head=MAX, method=method), data, cuts, eof=eof)


NAME = st.text("abcXYZ-_0", min_size=1, max_size=8).filter(
    lambda name: name.lower() not in ("content-length", "transfer-encoding")
)
VALUE = st.text('abc ,;=\t"é', max_size=12).map(lambda text: text.strip(" \t"))
CUTS = st.lists(st.integers(0, 1500), max_size=30)


@st.composite
def message_bodies(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """Generate a framing header, the bytes of a body, and its content."""
    content = draw(st.binary(max_size=200))
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    if kind == "none":
        return b"", b"", b""
    if kind == "length":
        return b"Content-Length: %d\r\n" % len(content), content, content
    size = draw(st.integers(1, 50))
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    body = b"".join(render_chunk(piece) for piece in pieces) + render_last_chunk([])
    return b"Transfer-Encoding: chunked\r\n", body, content


@given(st.lists(st.tuples(NAME, VALUE), max_size=5), st.lists(message_bodies(), min_size=1, max_size=3), CUTS)
def test_any_split_of_any_requests_gives_the_same_events(
    fields: list[tuple[str, str]], bodies: list[tuple[bytes, bytes, bytes]], cuts: list[int]
) -> None:
    lines = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in fields)
    data = b"".join(b"POST /a?b HTTP/1.1\r\n" + lines + framing + b"\r\n" + body for framing, body, _ in bodies)
    events = requests(data, cuts)
    assert events == requests(data)
    assert sum(isinstance(event, EndOfMessage) for event in events) == len(bodies)
    assert b"".join(event for event in events if isinstance(event, bytes)) == b"".join(
        content for *_, content in bodies
    )
    first = events[0]
    assert isinstance(first, RequestHead)
    expected = tuple((name.encode(), value.encode("latin-1")) for name, value in fields)
    assert first.headers[: len(fields)] == expected


@given(st.lists(message_bodies(), min_size=1, max_size=1), CUTS)
def test_any_split_of_any_response_gives_the_same_events(
    bodies: list[tuple[bytes, bytes, bytes]], cuts: list[int]
) -> None:
    framing, body, content = bodies[0]
    data = b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n" + framing + b"\r\n" + body
    events = responses(data, cuts, eof=True)
    assert events == responses(data, eof=True)
    assert [type(event) for event in events if not isinstance(event, bytes)] == [
        ResponseHead,
        ResponseHead,
        EndOfMessage,
    ]
    assert b"".join(event for event in events if isinstance(event, bytes)) == content


MESSAGES = (
    b"POST /a HTTP/1.1\r\nHost: t:1\r\nContent-Length: 5\r\n\r\nhello"
    b"PUT /b?c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"
    b"GET /c HTTP/1.1\r\nHost:\tt:1 \r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    b"HTTP/1.1 200 All  is well\r\nContent-Length: 5\r\n\r\nhello"
)  # fmt: skip


@pytest.mark.parametrize("step", [*range(1, 8), len(MESSAGES)])
def test_consecutive_requests_are_parsed_in_pieces_of_any_size(step: int) -> None:
    assert requests(MESSAGES, list(range(step, len(MESSAGES), step))) == [
        RequestHead(b"POST", b"/a", 1, Headers([(b"Host", b"t:1"), (b"Content-Length", b"5")]), 5),
        b"hello",
        EndOfMessage(),
        RequestHead(b"PUT", b"/b?c", 1, Headers([(b"Transfer-Encoding", b"chunked")]), BodyEnd.LAST_CHUNK),
        b"abcde",
        EndOfMessage(Headers([(b"A", b"b")])),
        RequestHead(b"GET", b"/c", 1, Headers([(b"Host", b"t:1")]), 0),
        EndOfMessage(),
    ]


@pytest.mark.parametrize("step", [*range(1, 8), len(RESPONSE)])
def test_a_response_is_parsed_in_pieces_of_any_size(step: int) -> None:
    assert responses(RESPONSE, list(range(step, len(RESPONSE), step))) == [
        ResponseHead(103, b"Early Hints", 1, Headers([(b"Link", b"a")]), 0),
        ResponseHead(200, b"All  is well", 1, Headers([(b"Content-Length", b"5")]), 5),
        b"hello",
        EndOfMessage(),
    ]


BAD_REQUESTS = {
    "both a length and chunks": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and a length": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
    "two equal lengths": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
    "a list of lengths": b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n",
    "a sign in the length": b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n",
    "a length in hex": b"POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\n",
    "an empty length": b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
    "a length beyond 64 bits": b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "a coding that is not chunked": b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    "chunked in two headers": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "identity and chunked": b"POST / HTTP/1.1\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
    "a quoted coding": b'POST / HTTP/1.1\r\nTransfer-Encoding: "chunked"\r\n\r\n',
    "a vertical tab before the coding": b"POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    "a folded first header": b"GET / HTTP/1.1\r\n A: b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nContent-Length : 3\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "an empty header name": b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    "a bare LF in the header": b"GET / HTTP/1.1\r\nA: b\nContent-Length: 3\r\n\r\n",
    "bare LFs only": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare CR in a value": b"GET / HTTP/1.1\r\nA: b\rContent-Length: 3\r\n\r\n",
    "a NUL in a value": b"GET / HTTP/1.1\r\nA: b\x00c\r\n\r\n",
    "a control character in a name": b"GET / HTTP/1.1\r\nA\x01: b\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower case http": b"GET / http/1.1\r\n\r\n",
    "two spaces in the request line": b"GET  / HTTP/1.1\r\n\r\n",
    "a tab in the request line": b"GET\t/ HTTP/1.1\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\n\r\n",
    "a byte beyond ASCII in the target": b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
    "an empty line first": b"\r\nGET / HTTP/1.1\r\n\r\n",
    "a space first": b" GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a CONNECT with a body": b"CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
    "chunked, and another coding in a second header": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n"
    ),
    "a major version that begins with another digit": b"GET / HTTP/2.1\r\n\r\n",
    "a minor version of no standard": b"GET / HTTP/1.2\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_an_ambiguous_request_is_invalid_however_it_is_split_and_before_its_body(data: bytes) -> None:
    follow = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    for cuts in ([], list(range(len(data)))):
        [invalid] = requests(data + follow, cuts)
        assert isinstance(invalid, InvalidMessage)
        assert invalid.status == 400


@pytest.mark.parametrize("end", [b"z\r\n", b"3\r\nabcd\r\n", b"0\r\nA : b\r\n\r\n"])
def test_after_a_bad_chunk_nothing_is_parsed(end: bytes) -> None:
    data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + end
    for cuts in ([], list(range(len(data)))):
        events = requests(data + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", cuts)
        assert isinstance(events[0], RequestHead)
        assert isinstance(events[-1], InvalidMessage)
        assert events[-1].status == 400
        assert not any(isinstance(event, RequestHead | EndOfMessage) for event in events[1:])


BAD_RESPONSES = {
    "both a length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status beyond 599": b"HTTP/1.1 600 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nA: b\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "two codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD_RESPONSES.values(), ids=BAD_RESPONSES.keys())
def test_an_ambiguous_response_is_invalid_however_it_is_split(data: bytes) -> None:
    for cuts in ([], list(range(len(data)))):
        [invalid] = responses(data, cuts)
        assert isinstance(invalid, InvalidMessage)


@pytest.mark.parametrize(
    ("method", "head"),
    [
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", id="a HEAD with a length"),
        pytest.param(b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", id="a HEAD with chunks"),
        pytest.param(b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", id="204"),
        pytest.param(b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", id="304"),
        pytest.param(b"GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", id="no reason phrase"),
        pytest.param(b"GET", b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", id="an empty reason phrase"),
    ],
)
def test_a_response_without_a_body_ends_with_its_head(method: bytes, head: bytes) -> None:
    assert [type(event) for event in responses(head, method=method)] == [ResponseHead, EndOfMessage]


def test_a_response_without_a_length_ends_with_the_connection() -> None:
    events = responses(b"HTTP/1.0 200 OK\r\n\r\nabc", eof=True)
    assert isinstance(events[0], ResponseHead)
    assert events[0].body is BodyEnd.CLOSE
    assert events[1:] == [b"abc", EndOfMessage()]


def test_eof_ends_a_message_once_and_only_if_one_has_begun() -> None:
    reader = ResponseReader(max_head=MAX, method=b"GET")
    assert reader.receive_eof() == []
    reader.receive(b"HTTP/1.1 200 OK\r\n\r\na")
    assert reader.receive_eof() == [EndOfMessage()]
    assert reader.receive_eof() == []


def test_is_between_chunks_is_true_only_within_a_chunked_body() -> None:
    reader = ResponseReader(max_head=MAX, method=b"GET")
    assert not reader.is_between_chunks
    reader.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert reader.is_between_chunks
    reader.receive(b"3\r\na")
    assert not reader.is_between_chunks
    reader.receive(b"bc\r\n")
    assert reader.is_between_chunks
    reader.receive(b"0\r\n\r\n")
    assert not reader.is_between_chunks


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", id="in the head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", id="in a body with a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", id="between chunks"),
    ],
)
def test_a_truncated_response_is_invalid(data: bytes) -> None:
    assert responses(data, eof=True)[-1] == InvalidMessage(400, "cut off")


def test_all_data_after_a_101_belongs_to_the_other_protocol() -> None:
    events = responses(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00HTTP")
    assert events[1:] == [b"\x81\x00HTTP"]


@pytest.mark.parametrize("extra", [0, 1])
def test_a_head_may_have_the_maximum_size_but_not_one_byte_more(extra: int) -> None:
    start, end = b"GET / HTTP/1.1\r\nA: ", b"\r\n\r\n"
    data = start + b"a" * (MAX - len(start) - len(end) + extra) + end
    for cuts in ([], list(range(len(data)))):
        events = requests(data, cuts)
        assert [type(event) for event in events] == ([InvalidMessage] if extra else [RequestHead, EndOfMessage])
        if extra:
            assert events == [InvalidMessage(431, f"header larger than {MAX} bytes")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16", id="TLS"),
        pytest.param(b"\x00", id="a NUL"),
        pytest.param(b" ", id="a space"),
        pytest.param(b"\x7f", id="the last control character"),
        pytest.param(b"\xe9", id="a letter beyond ASCII"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(b"GET / HTTP/1.1\n", id="a line that ends with LF alone"),
        pytest.param(b"GET / HTTP/1.1\r\nA: b\n\n", id="a field that does"),
    ],
)
def test_a_malformed_head_is_invalid_before_it_is_complete(data: bytes) -> None:
    for cuts in ([], list(range(len(data)))):
        assert requests(data, cuts) == [InvalidMessage(400, "malformed head")]


@pytest.mark.parametrize("data", [b"!", b"~", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nA: b\r\n"])
def test_an_incomplete_head_gives_no_event(data: bytes) -> None:
    for cuts in ([], list(range(len(data)))):
        assert requests(data, cuts) == []


def test_a_connect_in_http_1_0_is_accepted_and_later_bytes_stay_in_the_buffer() -> None:
    reader = RequestReader(max_head=MAX)
    events = reader.receive(b"CONNECT a:1 HTTP/1.0\r\n\r\n\x16\x03")
    assert [type(event) for event in events] == [RequestHead, EndOfMessage]
    assert reader.take_pending() == b"\x16\x03"
    assert not reader.buffer


def test_nothing_is_parsed_after_an_error() -> None:
    reader = RequestReader(max_head=MAX)
    reader.receive(b"\x00")
    assert not reader.buffer
    assert reader.receive(b"GET / HTTP/1.1\r\n\r\n") == []
    assert reader.receive_eof() == []


WITHOUT_BODY = [
    pytest.param(b"HEAD", 200, id="a response to HEAD"),
    pytest.param(b"GET", 204, id="204"),
    pytest.param(b"GET", 304, id="304"),
    pytest.param(b"GET", 103, id="early hints"),
    pytest.param(b"GET", 101, id="a switch of protocols"),
]


@pytest.mark.parametrize(("method", "status"), WITHOUT_BODY)
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(b"Content-Length: x\r\n", id="no number"),
        pytest.param(b"Content-Length: -1\r\n", id="a negative one"),
        pytest.param(b"Content-Length: 1\r\nContent-Length: 2\r\n", id="two"),
        pytest.param(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", id="a length and a coding"),
    ],
)
def test_a_malformed_length_is_invalid_also_without_a_body(method: bytes, status: int, lines: bytes) -> None:
    events = responses(b"HTTP/1.1 %d A\r\n%b\r\n" % (status, lines), method=method)
    assert [type(event) for event in events] == [InvalidMessage]


@pytest.mark.parametrize("status", [103, 204])
def test_a_length_is_removed_where_none_is_allowed(status: int) -> None:
    head = responses(b"HTTP/1.1 %d A\r\nContent-Length: 5\r\nX: 1\r\n\r\n" % status)[0]
    assert isinstance(head, ResponseHead)
    assert head.headers == ((b"X", b"1"),)


def test_a_response_to_head_keeps_its_length() -> None:
    head, end = responses(b"HTTP/1.1 200 A\r\nContent-Length: 5\r\n\r\n", method=b"HEAD")
    assert isinstance(head, ResponseHead)
    assert (head.headers.single_value(b"content-length"), end) == (b"5", EndOfMessage())


def test_headers_keep_their_order_and_lose_surrounding_white_space() -> None:
    assert parse_headers(b"B:  1 \t\r\na:\r\nB: x y\r\n\r\n") == ((b"B", b"1"), (b"a", b""), (b"B", b"x y"))


def test_headers_determine_the_framing_of_a_body() -> None:
    assert parse_body_framing(Headers([(b"Content-Length", b"5")])) == 5
    assert parse_body_framing(Headers([(b"transfer-encoding", b"Chunked")])) is BodyEnd.LAST_CHUNK
    assert parse_body_framing(Headers()) is None
    assert parse_body_framing(Headers([(b"Content-Length", b"9" * 18)])) == 10**18 - 1
    assert isinstance(parse_body_framing(Headers([(b"Content-Length", b"9" * 19)])), InvalidMessage)
    assert isinstance(
        parse_body_framing(Headers([(b"Content-Length", b"5"), (b"Content-Length", b"5")])), InvalidMessage
    )


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(b"0\r\nno colon\r\n\r\n", id="a trailer that is no field"),
        pytest.param(b"0\r\nA : b\r\n\r\n", id="a space before a trailer's colon"),
        pytest.param(b"0\r\nA: b\r\n c\r\n\r\n", id="a folded trailer"),
    ],
)
def test_a_malformed_trailer_makes_the_message_invalid(end: bytes) -> None:
    head = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert requests(head + end)[-1] == InvalidMessage(400, "malformed header field")


def test_forbidden_trailers_are_removed() -> None:
    head = b"HTTP/1.1 200 A\r\nTransfer-Encoding: chunked\r\n\r\n"
    end = responses(head + b"0\r\nContent-Length: 5\r\nX-Sum: 1\r\nProxy-Authenticate: Basic\r\n\r\n")[-1]
    assert end == EndOfMessage(Headers([(b"X-Sum", b"1")]))


@pytest.mark.parametrize(
    ("size", "is_cached"), [(0, True), (MAX_CACHED_HEADERS, True), (MAX_CACHED_HEADERS + 1, False)]
)
def test_the_headers_of_the_previous_request_are_cached_up_to_a_size(size: int, is_cached: bool) -> None:
    fields = b"A: b\r\n\r\n"
    fields = b"A: " + b"b" * max(1, size - len(fields) + 1) + b"\r\n\r\n"
    reader = RequestReader(max_head=2 * MAX_CACHED_HEADERS)
    first, _ = reader.receive(b"GET /a HTTP/1.1\r\n" + fields)
    reader.next_message()
    second, _ = reader.receive(b"GET /b HTTP/1.1\r\n" + fields)
    assert isinstance(first, RequestHead)
    assert isinstance(second, RequestHead)
    assert (second.target, second.headers) == (b"/b", first.headers)
    assert (second.headers is first.headers) is is_cached
