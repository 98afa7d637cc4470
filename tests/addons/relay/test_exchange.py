"""Audit records of requests and of long-running responses."""

from dataclasses import replace

import pytest

from addons.access.authorizer import AuthorizationResult
from addons.access.connector_request import ConnectorRequest
from addons.http1.messages import BodyEnd, EndOfMessage, RequestHead
from addons.records.record import Record
from addons.records.session_row import MAX_TEXT
from addons.relay.exchange import Exchange
from addons.relay.response import Response
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Identity, Unavailable
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import Forward
from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.permissions.restrictions import Treatment
from tests.addons.relay.test_inject import GRANTED, target

KEY = ObjectKey("n", "a")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"


def create_exchange(path: bytes = b"/api", *, body: int | BodyEnd = 0) -> Exchange:
    head = RequestHead(b"GET", path, 1, Headers([(b"User-Agent", b"k")]), body)
    return Exchange(head=head, connector_request=ConnectorRequest(KEY, "h:1", "t"), source_ip="10.0.0.1")


def receive_response(exchange: Exchange, data: bytes, records: list[Record]) -> Response:
    response = Response(exchange.head, target("t"), b"websocket", max_head=4096)
    response.receive(data)
    exchange.record_response(response, (records.append,))
    exchange.record_response(response, (records.append,))
    return response


def test_a_request_is_recorded_once_at_its_end() -> None:
    records: list[Record] = []
    exchange = create_exchange(b"/api/v1/namespaces/x/pods?limit=5")
    receive_response(exchange, OK, records)
    assert records == []
    exchange.record_end("", (records.append,))
    (record,) = records
    assert (record.event, record.status, record.cause, record.user_agent) == ("request", 200, "", "k")
    assert record.info is not None
    assert (record.info.verb, record.info.namespace) == ("list", "x")


@pytest.mark.parametrize(
    ("path", "data", "kind"),
    [
        pytest.param(b"/api/v1/pods?watch=true", OK, "watch", id="a watch"),
        pytest.param(b"/api/v1/namespaces/x/pods/p/log?follow=true", OK, "log", id="a log with follow"),
        pytest.param(b"/api/v1/namespaces/x/pods/p/exec?command=a", SWITCHED, "exec", id="an exec"),
        pytest.param(b"/other", SWITCHED, "upgrade", id="another upgrade"),
    ],
)
def test_a_long_running_response_is_recorded_at_its_start_and_its_end(path: bytes, data: bytes, kind: str) -> None:
    records: list[Record] = []
    exchange = create_exchange(path)
    response = receive_response(exchange, data, records)
    assert [(record.event, record.long_running_kind) for record in records] == [("request", kind)]
    assert response.head is not None
    assert response.head.headers == (), "a long-running response must not keep them in memory"
    exchange.bytes_out = 7
    exchange.record_end("it was cut", (records.append,))
    assert (records[1].event, records[1].long_running_kind, records[1].cause) == ("stream", kind, "it was cut")
    assert records[1].bytes_out == 7


def test_each_field_of_a_row_is_bounded() -> None:
    long = b"x" * 65536
    grant = replace(GRANTED, identity=Identity(user=long.decode()))
    exchange = create_exchange(b"/apis/%b/v1/namespaces/%b/%b/%b/%b?command=%b" % ((long,) * 6))
    decision = Forward(target=target(None), grant=grant, role=long.decode())
    exchange.authorization = AuthorizationResult(decision, exchange.connector_request, grant.identity)
    assert exchange.session_row(commands=True) is None, "the target does not have the request yet"
    exchange.audit_id = "1"
    row = exchange.session_row(commands=True)
    assert row is not None
    texts = [value for value in row.document().values() if isinstance(value, str)]
    assert max(map(len, texts)) == MAX_TEXT
    assert sum(len(text) == MAX_TEXT for text in texts) >= 5


def test_a_log_without_follow_is_not_long_running() -> None:
    records: list[Record] = []
    exchange = create_exchange(b"/api/v1/namespaces/x/pods/p/log")
    receive_response(exchange, OK, records)
    assert (records, exchange.long_running_kind) == ([], "")


def test_a_refusal_is_recorded_with_its_cause() -> None:
    records: list[Record] = []
    exchange = create_exchange()
    exchange.set_refusal(denial.too_many_connections(1))
    exchange.record_end("", (records.append,))
    assert (records[0].status, records[0].cause) == (429, "too_many")


def test_a_body_is_framed_for_the_target() -> None:
    out: list[bytes] = []
    plain, chunked = create_exchange(body=2), create_exchange(body=BodyEnd.LAST_CHUNK)
    plain.append_body(b"ab", out)
    plain.append_body(EndOfMessage(), out)
    chunked.append_body(b"ab", out)
    chunked.append_body(EndOfMessage(Headers([(b"Trailer", b"dropped")])), out)
    assert out == [b"ab", b"2\r\nab\r\n", b"0\r\n\r\n"]
    assert plain.is_request_complete
    assert chunked.is_request_complete


def test_repr_contains_no_token() -> None:
    exchange = create_exchange()
    exchange.authorization = AuthorizationResult(denial.too_many_connections(1), ConnectorRequest(KEY, "h:1", "canary"))
    assert "canary" not in repr(exchange)


def test_the_record_says_why_the_caller_was_not_checked() -> None:
    records: list[Record] = []
    exchange = create_exchange()
    deny = denial.unavailable(Unavailable(reason="", kind="check_timeout"))
    exchange.authorization = AuthorizationResult(deny, exchange.connector_request)
    exchange.set_refusal(deny)
    exchange.record_end("", (records.append,))
    [record] = records
    assert (record.cause, record.detail) == ("unavailable", "check_timeout")


def test_each_value_is_in_its_field_of_the_record() -> None:
    records: list[Record] = []
    exchange = create_exchange()
    grant = AccessGrant(
        request=ObjectKey("n", "r"), request_uid="", policy="", approved_by=("joe",), approval_uid="", pod_uid="",
        started_at=0.0, duration=1.0,
    )  # fmt: skip
    decision = Forward(target=target(None), grant=GRANTED, role="role", treatment=Treatment.MASK, access_grant=grant)
    exchange.authorization = AuthorizationResult(decision, exchange.connector_request, GRANTED.identity)
    exchange.status, exchange.refusal_message, exchange.audit_id = 200, "message", "audit-id"
    exchange.bytes_in, exchange.bytes_out, exchange.long_running_kind = 3, 5, "watch"
    exchange.record_end("reason", (records.append,))
    assert replace(records[0], duration=0.0) == Record(
        event="stream", connector=KEY, status=200, source_ip="10.0.0.1", duration=0.0, identity=GRANTED.identity,
        info=exchange.request_info(), target="/api", user_agent="k", cause="reason", detail="", message="message",
        bytes_in=3, bytes_out=5, long_running_kind="watch", role="role", audit_id="audit-id", access_request="n/r",
        approved_by=("joe",), treatment="masked",
    )  # fmt: skip


def test_the_end_is_recorded_once() -> None:
    records: list[Record] = []
    exchange = create_exchange()
    exchange.record_end("", (records.append,))
    exchange.record_end("again", (records.append,))
    assert len(records) == 1


@pytest.mark.parametrize(("body", "upgrade"), [(0, True), (3, False)])
def test_only_a_request_without_a_body_may_be_upgraded(body: int, upgrade: bool) -> None:
    exchange = create_exchange(body=body)
    headers = Headers([(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")])
    exchange.head = replace(exchange.head, headers=headers)
    forward = Forward(target=target(None), grant=GRANTED)
    _, request_bytes = exchange.forward(forward, max_head=4096, must_close=False, forwarded_for=True)
    assert (b"Upgrade: websocket" in request_bytes) is upgrade


@pytest.mark.parametrize("forwarded_for", [True, False])
def test_forwarded_for_decides_whether_the_target_gets_the_client_address(forwarded_for: bool) -> None:
    exchange = create_exchange()
    forward = Forward(target=target(None), grant=GRANTED)
    _, request_bytes = exchange.forward(forward, max_head=4096, must_close=False, forwarded_for=forwarded_for)
    assert (b"\r\nX-Forwarded-For: 10.0.0.1\r\n" in request_bytes) is forwarded_for


@pytest.mark.parametrize(
    ("treatment", "name"),
    [(Treatment.MASK, "masked"), (Treatment.DRY_RUN, "dry_run"), (Treatment.REVIEW, ""), (Treatment.UNCHANGED, "")],
)
def test_the_record_says_how_the_permissions_limit_the_request(treatment: Treatment, name: str) -> None:
    records: list[Record] = []
    exchange = create_exchange()
    exchange.authorization = AuthorizationResult(Forward(target=target(None), grant=GRANTED, treatment=treatment))
    exchange.record_end("", (records.append,))
    assert records[0].treatment == name
