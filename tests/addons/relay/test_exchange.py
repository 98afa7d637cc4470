"""What is written down of a request, and of a stream."""

import pytest

from addons.access.authorizer import AuthorizationResult
from addons.access.connector_request import ConnectorRequest
from addons.http1.messages import BodyEnd, EndOfMessage, RequestHead
from addons.records.record import Record
from addons.relay.exchange import Exchange
from addons.relay.response import Response
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import Forward
from tests.addons.relay.test_inject import GRANTED, target

KEY = ObjectKey("n", "a")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"


def turn(path: bytes = b"/api", *, body: int | BodyEnd = 0) -> Exchange:
    head = RequestHead(b"GET", path, 1, Headers([(b"User-Agent", b"k")]), body)
    return Exchange(head=head, connector_request=ConnectorRequest(KEY, "h:1", "t"), source_ip="10.0.0.1")


def answer(found: Exchange, data: bytes, records: list[Record]) -> None:
    found.response = Response(found.head, target("t"), b"websocket", max_head=4096)
    found.response.receive(data)
    found.record_response((records.append,))
    found.record_response((records.append,))


def test_a_request_is_one_record_at_its_end() -> None:
    records: list[Record] = []
    found = turn(b"/api/v1/namespaces/x/pods?limit=5")
    answer(found, OK, records)
    assert records == []
    found.record_end("", (records.append,))
    (record,) = records
    assert (record.event, record.status, record.cause, record.user_agent) == ("request", 200, "", "k")
    assert record.info is not None
    assert (record.info.verb, record.info.namespace) == ("list", "x")


@pytest.mark.parametrize(
    ("path", "data", "kind"),
    [
        pytest.param(b"/api/v1/pods?watch=true", OK, "watch", id="a watch"),
        pytest.param(b"/api/v1/namespaces/x/pods/p/log?follow=true", OK, "log", id="a followed log"),
        pytest.param(b"/api/v1/namespaces/x/pods/p/exec?command=a", SWITCHED, "exec", id="an exec"),
        pytest.param(b"/other", SWITCHED, "upgrade", id="another upgrade"),
    ],
)
def test_a_stream_is_written_when_it_begins_and_when_it_ends(path: bytes, data: bytes, kind: str) -> None:
    records: list[Record] = []
    found = turn(path)
    answer(found, data, records)
    assert [(each.event, each.stream_kind) for each in records] == [("request", kind)]
    assert found.response is not None
    assert found.response.head is not None
    assert found.response.head.headers == (), "it may last for days, and nobody looks at them again"
    found.bytes_out = 7
    found.record_end("it was cut", (records.append,))
    assert (records[1].event, records[1].stream_kind, records[1].cause) == ("stream", kind, "it was cut")
    assert records[1].bytes_out == 7


def test_a_log_that_is_not_followed_is_no_stream() -> None:
    records: list[Record] = []
    found = turn(b"/api/v1/namespaces/x/pods/p/log")
    answer(found, OK, records)
    assert (records, found.long_running_kind) == ([], "")


def test_a_refusal_keeps_its_cause() -> None:
    records: list[Record] = []
    found = turn()
    found.set_refusal(denial.too_many_connections(1))
    found.record_end("", (records.append,))
    assert (records[0].status, records[0].cause) == (429, "too_many")


def test_a_body_is_framed_for_the_target() -> None:
    out: list[bytes] = []
    plain, chunked = turn(body=2), turn(body=BodyEnd.LAST_CHUNK)
    plain.append_body(b"ab", out)
    plain.append_body(EndOfMessage(), out)
    chunked.append_body(b"ab", out)
    chunked.append_body(EndOfMessage(Headers([(b"Trailer", b"dropped")])), out)
    assert out == [b"ab", b"2\r\nab\r\n", b"0\r\n\r\n"]
    assert plain.is_request_complete
    assert chunked.is_request_complete


def test_its_text_form_shows_no_token() -> None:
    found = turn()
    found.authorization = AuthorizationResult(denial.too_many_connections(1), KEY, None, "canary")
    assert "canary" not in repr(found)


def test_it_is_written_down_once() -> None:
    records: list[Record] = []
    found = turn()
    found.record_end("", (records.append,))
    found.record_end("again", (records.append,))
    assert len(records) == 1


@pytest.mark.parametrize(("body", "upgrade"), [(0, True), (3, False)])
def test_only_a_request_without_a_body_may_be_upgraded(body: int, upgrade: bool) -> None:
    found = turn(body=body)
    asked = Headers([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")])
    found.head = found.head._replace(headers=asked)
    forward = Forward(target=target(None), grant=GRANTED)
    start = found.forward(forward, max_head=4096, must_close=False, forwarded_for=True)
    assert (b"Upgrade: websocket" in start) is upgrade


@pytest.mark.parametrize("tells_address", [True, False])
def test_the_target_is_told_the_clients_address_if_it_may_know(tells_address: bool) -> None:
    found = turn()
    forward = Forward(target=target(None), grant=GRANTED)
    start = found.forward(forward, max_head=4096, must_close=False, forwarded_for=tells_address)
    assert (b"\r\nX-Forwarded-For: 10.0.0.1\r\n" in start) is tells_address
