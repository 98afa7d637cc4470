"""Conversion of a target's response for the client, without I/O."""

import json

import pytest

from addons.http1.messages import RequestHead
from addons.relay.response import Progress, Response, TruncatedResponse
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.warning import warning_header
from tests.addons.relay.test_inject import request, target

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
JSON = CHUNKED + b"Content-Type: application/json\r\n\r\n"
LAST = b"0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"


def create_response(head: RequestHead | None = None, upgrade: bytes | None = None) -> Response:
    return Response(head or request(), target("t"), upgrade, max_head=4096)


def test_a_response_with_a_length_is_passed_unchanged() -> None:
    response = create_response()
    progress = [response.progress]
    assert response.receive(HEAD + b"a") + response.receive(b"bc") == HEAD + b"abc"
    progress.append(response.progress)
    assert progress == [Progress.EMPTY, Progress.COMPLETE]
    assert not response.must_close


def test_chunks_are_rendered_again_with_their_trailers() -> None:
    response = create_response()
    response.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    output = response.receive(b"1;x\r\na\r\n2\r\nbc\r\n0\r\nT: 1\r\n\r\n")
    assert output == b"3\r\nabc\r\n0\r\nT: 1\r\n\r\n"


def test_an_interim_response_is_passed_first() -> None:
    response = create_response()
    assert response.receive(b"HTTP/1.1 100 Continue\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert response.head is None
    assert response.receive(HEAD + b"abc").startswith(b"HTTP/1.1 200")


def test_a_close_delimited_response_closes_the_client_connection() -> None:
    response = create_response()
    assert b"Connection: close" in response.receive(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert response.receive_eof(clean_eof=True) == b""
    assert (response.progress, response.must_close, response.failure) == (Progress.COMPLETE, True, None)


def test_a_close_delimited_response_without_close_notify_is_truncated() -> None:
    response = create_response()
    response.receive(b"HTTP/1.1 200 OK\r\n\r\nabc")
    response.receive_eof(clean_eof=False)
    assert isinstance(response.failure, TruncatedResponse)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"HTTP/1.1 401 Unauthorized\r\n\r\n", "refused the credential", id="401"),
        pytest.param(b"SSH-2.0\r\n\r\n", "is not HTTP/1.1", id="another protocol"),
        pytest.param(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", "not asked for", id="an unrequested upgrade"),
        pytest.param(b"", "without an answer", id="nothing"),
    ],
)
def test_an_invalid_response_becomes_a_refusal(data: bytes, words: str) -> None:
    response = create_response()
    output = response.receive(data) if data else b""
    output += response.receive_eof(clean_eof=True)
    assert output == b""
    assert isinstance(response.failure, Deny)
    assert response.failure.status == 502
    assert words in response.failure.message


def test_a_tls_error_is_the_reason_of_a_missing_response() -> None:
    response = create_response()
    assert response.receive_eof(clean_eof=False, tls_error="TLS failed: record layer failure") == b""
    assert isinstance(response.failure, Deny)
    assert response.failure.status == 502
    assert response.failure.message.endswith(": TLS failed: record layer failure")


@pytest.mark.parametrize("end", [b"", b"garbage"])
def test_a_failure_after_the_head_truncates_the_response(end: bytes) -> None:
    response = create_response()
    response.receive(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    if end:
        response.receive(end + b"\r\n")
    else:
        response.receive_eof(clean_eof=True)
    assert isinstance(response.failure, TruncatedResponse)


def test_the_requested_upgrade_is_passed() -> None:
    response = create_response(upgrade=b"websocket")
    output = response.receive(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\nframe")
    assert response.progress is Progress.UPGRADED
    assert output.endswith(b"\r\n\r\nframe")


@pytest.mark.parametrize(
    ("data", "last"),
    [
        pytest.param(JSON, LAST, id="a watch before its first event"),
        pytest.param(JSON + b"3\r\n{}\n\r\n", LAST, id="a watch between two events"),
        pytest.param(JSON + b"3\r\n{}", None, id="in the middle of a chunk"),
        pytest.param(JSON + b"3\r\n{}\n", None, id="before the end of a chunk"),
        pytest.param(JSON + b"3\r\n{}\n\r\n5", None, id="within the size of the next chunk"),
        pytest.param(JSON + b"1\r\n{\r\n", None, id="an event in several chunks"),
        pytest.param(CHUNKED + b"\r\n1\r\n{\r\n", LAST, id="chunks whose events are unknown"),
        pytest.param(HEAD, b"", id="a body with a length"),
        pytest.param(b"", b"", id="no response yet"),
    ],
)
def test_a_watch_can_end_between_two_events(data: bytes, last: bytes | None) -> None:
    response = create_response()
    if data:
        response.receive(data)
    assert response.render_end() == last


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", True, id="no length"),
        pytest.param(HEAD, False, id="a length"),
        pytest.param(JSON, False, id="chunks"),
        pytest.param(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n", False, id="a pipe"),
    ],
)
def test_only_a_response_without_length_and_chunks_is_close_delimited(data: bytes, expected: bool) -> None:
    response = create_response(upgrade=b"websocket")
    response.receive(data)
    assert response.is_close_delimited is expected


def test_only_the_final_head_has_a_warning() -> None:
    response = create_response()
    response.warnings.append(warning_header("it ends soon"))
    output = response.receive(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"abc")
    assert output.count(b'Warning: 299 kubernetes-connector "it ends soon"\r\n') == 1
    assert output.index(b"Warning") > output.index(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 3\r\n\r\nabc', id="a response with a validator"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\n\r\n", id="a response that is merged with a cached one"),
    ],
)
def test_a_response_that_clients_cache_has_no_warning(head: bytes) -> None:
    response = create_response()
    response.warnings.append(warning_header("it ends soon"))
    assert b"Warning" not in response.receive(b"HTTP/1.1 100 Continue\r\n\r\n" + head)
    assert response.warnings_omitted


def test_a_watch_that_is_closed_between_events_gets_an_error_event() -> None:
    response = create_response()
    response.receive(JSON + b"2\r\n{}\r\n")
    response.drop_headers()
    assert response.render_error_event("no more") == b""
    response.receive(b"1\r\n\n\r\n")
    error_event = response.render_error_event("no more")
    event = json.loads(error_event.split(b"\r\n")[1])
    assert (event["type"], event["object"]["message"]) == ("ERROR", "the proxy closed the watch: no more")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="no head"),
        pytest.param(HEAD, id="no chunks"),
        pytest.param(CHUNKED + b"Content-Type: application/vnd.kubernetes.protobuf\r\n\r\n", id="no JSON"),
    ],
)
def test_other_responses_get_no_error_event(data: bytes) -> None:
    response = create_response()
    if data:
        response.receive(data)
    assert response.render_error_event("no more") == b""
