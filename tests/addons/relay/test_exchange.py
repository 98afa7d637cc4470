"""What is written down of a request, and of a stream."""

import pytest

from addons.access.grant import Grant
from addons.http1.messages import End, RequestHead, Until
from addons.records.record import Record
from addons.records.recorder import Recorder
from addons.relay.exchange import Exchange
from addons.relay.response import Response
from connector_store.domain import denial
from connector_store.domain.headers import Fields
from connector_store.domain.names import ObjectKey
from tests.addons.relay.test_inject import target

KEY = ObjectKey("n", "a")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n"


class FakeRecorder(Recorder):
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.live: list[str] = []

    def record(self, exchange: Record) -> None:
        self.records.append(exchange)

    def stream_began(self, key: ObjectKey, kind: str) -> None:
        self.live.append(kind)

    def stream_ended(self, key: ObjectKey, kind: str) -> None:
        self.live.remove(kind)


def tell(*_: object) -> None:
    raise AssertionError("nobody watches")


def turn(path: bytes = b"/api", *, body: int | Until = 0) -> Exchange:
    tunnel = Grant(key=KEY, authority="h:1", host="h", source_ip="10.0.0.1", token=None)
    return Exchange(head=RequestHead(b"GET", path, 1, Fields([(b"User-Agent", b"k")]), body), tunnel=tunnel)


def answer(found: Exchange, data: bytes, recorder: Recorder) -> None:
    relay = Response(found.head, target("t"), b"websocket", max_head=4096)
    relay.receive(data)
    found.answered(relay, recorder)
    found.answered(relay, recorder)


def test_a_request_is_one_record_at_its_end() -> None:
    recorder, found = FakeRecorder(), turn(b"/api/v1/namespaces/x/pods?limit=5")
    answer(found, OK, recorder)
    assert recorder.records == []
    found.ended("", recorder, tell)
    (record,) = recorder.records
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
    recorder, found = FakeRecorder(), turn(path)
    answer(found, data, recorder)
    assert recorder.live == [kind]
    assert [each.event for each in recorder.records] == ["request"]
    found.bytes_out = 7
    found.ended("it was cut", recorder, tell)
    assert recorder.live == []
    assert (recorder.records[1].event, recorder.records[1].cause) == ("stream", "it was cut")
    assert recorder.records[1].bytes_out == 7


def test_a_log_that_is_not_followed_is_no_stream() -> None:
    recorder, found = FakeRecorder(), turn(b"/api/v1/namespaces/x/pods/p/log")
    answer(found, OK, recorder)
    assert recorder.live == []


def test_a_refusal_keeps_its_cause() -> None:
    recorder, found = FakeRecorder(), turn()
    found.denied(denial.too_many(1))
    found.ended("", recorder, tell)
    assert (recorder.records[0].status, recorder.records[0].cause) == (429, "too_many")


def test_a_body_is_framed_for_the_target() -> None:
    out: list[bytes] = []
    plain, chunked = turn(body=2), turn(body=Until.LAST_CHUNK)
    plain.frame(b"ab", out)
    plain.frame(End(), out)
    chunked.frame(b"ab", out)
    chunked.frame(End(Fields([(b"Trailer", b"dropped")])), out)
    assert out == [b"ab", b"2\r\nab\r\n", b"0\r\n\r\n"]
    assert plain.whole
    assert chunked.whole


def test_a_turn_shows_no_token() -> None:
    found = turn()
    found.token = "canary"
    assert "canary" not in repr(found)
