"""A target's answer on its way to the client, without IO."""

import json

import pytest

from addons.http1.messages import RequestHead
from addons.relay.response import Response, TruncatedResponse
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.warning import warning_header
from tests.addons.relay.test_inject import request, target

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
JSON = CHUNKED + b"Content-Type: application/json\r\n\r\n"
LAST = b"0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"


def relay(head: RequestHead | None = None, upgrade: bytes | None = None) -> Response:
    return Response(head or request(), target("t"), upgrade, max_head=4096)


def test_an_answer_with_a_length_is_passed_as_it_comes() -> None:
    found = relay()
    assert found.is_empty
    assert found.receive(HEAD + b"a") + found.receive(b"bc") == HEAD + b"abc"
    assert found.is_complete
    assert not found.must_close


def test_chunks_are_framed_anew_with_their_trailers() -> None:
    found = relay()
    found.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    out = found.receive(b"1;x\r\na\r\n2\r\nbc\r\n0\r\nT: 1\r\n\r\n")
    assert out == b"3\r\nabc\r\n0\r\nT: 1\r\n\r\n"


def test_what_announces_an_answer_goes_first() -> None:
    found = relay()
    assert found.receive(b"HTTP/1.1 100 Continue\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert found.head is None
    assert found.receive(HEAD + b"abc").startswith(b"HTTP/1.1 200")


def test_an_answer_that_ends_with_the_connection_ends_the_tunnel() -> None:
    found = relay()
    assert b"Connection: close" in found.receive(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert found.receive_eof(clean_eof=True) == b""
    assert (found.is_complete, found.must_close, found.failure) == (True, True, None)


def test_without_the_end_of_its_tls_session_such_an_answer_may_be_cut_off() -> None:
    found = relay()
    found.receive(b"HTTP/1.1 200 OK\r\n\r\nabc")
    found.receive_eof(clean_eof=False)
    assert isinstance(found.failure, TruncatedResponse)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"HTTP/1.1 401 Unauthorized\r\n\r\n", "refused the credential", id="401"),
        pytest.param(b"SSH-2.0\r\n\r\n", "is not HTTP/1.1", id="another protocol"),
        pytest.param(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", "not asked for", id="an upgrade unasked for"),
        pytest.param(b"", "without an answer", id="nothing"),
    ],
)
def test_what_is_no_answer_becomes_a_refusal(data: bytes, words: str) -> None:
    found = relay()
    out = found.receive(data) if data else b""
    out += found.receive_eof(clean_eof=True)
    assert out == b""
    assert isinstance(found.failure, Deny)
    assert found.failure.status == 502
    assert words in found.failure.message


def test_what_came_and_was_no_tls_is_why_there_is_no_answer() -> None:
    found = relay()
    assert found.receive_eof(clean_eof=False, tls_error="TLS failed: record layer failure") == b""
    assert isinstance(found.failure, Deny)
    assert found.failure.status == 502
    assert found.failure.message.endswith(": TLS failed: record layer failure")


@pytest.mark.parametrize("end", [b"", b"garbage"])
def test_after_the_head_it_can_only_break(end: bytes) -> None:
    found = relay()
    found.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    if end:
        found.receive(end + b"\r\n")
    else:
        found.receive_eof(clean_eof=True)
    assert isinstance(found.failure, TruncatedResponse)


def test_an_upgrade_as_asked_becomes_a_pipe() -> None:
    found = relay(upgrade=b"websocket")
    out = found.receive(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\nframe")
    assert found.is_upgraded
    assert out.endswith(b"\r\n\r\nframe")


@pytest.mark.parametrize(
    ("data", "last"),
    [
        pytest.param(JSON, LAST, id="a watch before its first event"),
        pytest.param(JSON + b"3\r\n{}\n\r\n", LAST, id="a watch between two events"),
        pytest.param(JSON + b"3\r\n{}", None, id="in the middle of a chunk"),
        pytest.param(JSON + b"3\r\n{}\n", None, id="before the end of a chunk"),
        pytest.param(JSON + b"3\r\n{}\n\r\n5", None, id="within the size of the next chunk"),
        pytest.param(JSON + b"1\r\n{\r\n", None, id="an event in several chunks"),
        pytest.param(CHUNKED + b"\r\n1\r\n{\r\n", LAST, id="chunks whose events cannot be told"),
        pytest.param(HEAD, b"", id="nothing ends a length before its time"),
        pytest.param(b"", b"", id="no answer yet"),
    ],
)
def test_a_watch_may_end_between_its_events(data: bytes, last: bytes | None) -> None:
    found = relay()
    if data:
        found.receive(data)
    assert found.render_end() == last


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", True, id="no length"),
        pytest.param(HEAD, False, id="a length"),
        pytest.param(JSON, False, id="chunks"),
        pytest.param(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", False, id="a pipe"),
    ],
)
def test_only_without_a_length_the_end_of_the_connection_ends_the_answer(data: bytes, expected: bool) -> None:
    found = relay(upgrade=b"websocket")
    found.receive(data)
    assert found.is_close_delimited is expected


def test_a_warning_goes_with_the_final_head_alone() -> None:
    found = relay()
    found.warnings.append(warning_header("it ends soon"))
    out = found.receive(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"abc")
    assert out.count(b'Warning: 299 kubernetes-connector "it ends soon"\r\n') == 1
    assert out.index(b"Warning") > out.index(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 3\r\n\r\nabc', id="an answer with a validator"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\n\r\n", id="what is joined with a kept one"),
    ],
)
def test_no_warning_goes_with_what_clients_keep(head: bytes) -> None:
    found = relay()
    found.warnings.append(warning_header("it ends soon"))
    assert b"Warning" not in found.receive(b"HTTP/1.1 100 Continue\r\n\r\n" + head)
    assert found.warnings_omitted


def test_a_watch_that_is_cut_between_events_is_told_why() -> None:
    found = relay()
    found.receive(JSON + b"2\r\n{}\r\n")
    found.drop_headers()
    assert found.render_error_event("no more") == b""
    found.receive(b"1\r\n\n\r\n")
    told = found.render_error_event("no more")
    event = json.loads(told.split(b"\r\n")[1])
    assert (event["type"], event["object"]["message"]) == ("ERROR", "the watch was cut: no more")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="no head"),
        pytest.param(HEAD, id="no chunks"),
        pytest.param(CHUNKED + b"Content-Type: application/vnd.kubernetes.protobuf\r\n\r\n", id="no JSON"),
    ],
)
def test_where_there_is_no_place_for_a_reason_none_is_told(data: bytes) -> None:
    found = relay()
    if data:
        found.receive(data)
    assert found.render_error_event("no more") == b""
