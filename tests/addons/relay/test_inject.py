"""Heads that go on: the credential is written once, and nothing of the caller's own."""

from dataclasses import replace

import pytest

from addons.http1.messages import BodyEnd, BodyFraming, RequestHead, ResponseHead
from addons.relay import inject
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Identity
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.credential.token_request import IssuingCredential, TokenRequest
from connector_store.domain.decision.decide import Forward, Inject
from connector_store.domain.objects.models import Address, Target

GRANTED = Granted(identity=Identity(user="u"))


def target(token: str | None) -> Target:
    return Target(
        key=ObjectKey("n", "a"),
        uid="",
        address=Address(host="h", port=443),
        credential=BearerToken(token) if token is not None else None,
        secret_name=None,
        ca=None,
    )


INJECT = Inject(target=target("real"), grant=GRANTED)
FORWARD = Forward(target=target(None), grant=GRANTED)


def request(*headers: Header, method: bytes = b"GET", body: BodyFraming = 0, minor: int = 1) -> RequestHead:
    return RequestHead(method, b"/a", minor, Headers(headers), body)


def response(*headers: Header, status: int = 200, body: BodyFraming = 0, minor: int = 1) -> ResponseHead:
    return ResponseHead(status, b"Why", minor, Headers(headers), body)


def test_the_credential_takes_the_place_of_whatever_the_caller_sent() -> None:
    head = request((b"Host", b"h"), (b"Authorization", b"Bearer fake"), (b"authorization", b"Basic x"))
    assert inject.render_request_head(head, INJECT, None, "1") == (
        b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer real\r\nAudit-ID: 1\r\n\r\n"
    )
    assert inject.render_request_head(head, FORWARD, None, "1") == b"GET /a HTTP/1.1\r\nHost: h\r\nAudit-ID: 1\r\n\r\n"


def test_the_target_is_told_who_calls_and_by_what_name_its_audit_log_has_the_request() -> None:
    head = request((b"Host", b"h"), (b"Audit-ID", b"of-the-caller"))
    named = replace(INJECT, impersonation_headers=b"Impersonate-User: c:jane\r\n")
    assert inject.render_request_head(head, named, None, "1") == (
        b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer real\r\nAudit-ID: 1\r\nImpersonate-User: c:jane\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("source_ip", "told"),
    [
        pytest.param("10.0.0.7", b"X-Forwarded-For: 10.0.0.7\r\n", id="IPv4"),
        pytest.param("2001:db8::7", b"X-Forwarded-For: 2001:db8::7\r\n", id="IPv6"),
        pytest.param("fe80::7%eth0", b"X-Forwarded-For: fe80::7\r\n", id="IPv6 with a zone"),
        pytest.param("", b"", id="the target shall not know"),
    ],
)
def test_the_clients_address_takes_the_place_of_what_the_caller_said(source_ip: str, told: bytes) -> None:
    head = request((b"Host", b"h"), (b"X-Forwarded-For", b"192.0.2.66"), (b"Forwarded", b"for=192.0.2.66"))
    assert inject.render_request_head(head, FORWARD, None, "1", source_ip) == (
        b"GET /a HTTP/1.1\r\nHost: h\r\nAudit-ID: 1\r\n%b\r\n" % told
    )


def test_warnings_of_ours_stand_beside_those_of_the_target() -> None:
    head = response((b"Warning", b'299 - "old"'))
    found = inject.render_response_head(head, close=False, warnings=[(b"Warning", b'299 - "ours"')])
    assert found == b'HTTP/1.1 200 Why\r\nWarning: 299 - "old"\r\nWarning: 299 - "ours"\r\n\r\n'


def test_a_decision_to_inject_without_a_credential_is_an_error() -> None:
    minting = IssuingCredential(BearerToken("real"), TokenRequest(service_account=ObjectKey("ci", "deployer")))
    for bad in (target(None), replace(target(None), credential=minting)):
        with pytest.raises(ValueError, match="without a credential"):
            inject.render_request_head(request(), Inject(target=bad, grant=GRANTED), None, "1")


def test_a_client_certificate_needs_no_header_and_the_callers_goes_all_the_same() -> None:
    head = request((b"Host", b"h"), (b"Authorization", b"Bearer fake"))
    shown = replace(target(None), credential=ClientCertificate(b"chain", b"key"))
    sent = inject.render_request_head(head, Inject(target=shown, grant=GRANTED), None, "1")
    assert sent == b"GET /a HTTP/1.1\r\nHost: h\r\nAudit-ID: 1\r\n\r\n"


def test_framing_and_an_upgrade_are_written_anew() -> None:
    chunked = request((b"Transfer-Encoding", b"CHUNKED"), body=BodyEnd.LAST_CHUNK, method=b"POST")
    assert inject.render_request_head(chunked, FORWARD, None, "1") == (
        b"POST /a HTTP/1.1\r\nAudit-ID: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    asked = request((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"SPDY/3.1"))
    assert inject.render_request_head(asked, FORWARD, b"spdy/3.1", "1") == (
        b"GET /a HTTP/1.1\r\nAudit-ID: 1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("asked", "answered", "passed"),
    [
        pytest.param(b"websocket", [(b"Upgrade", b"WebSocket")], True, id="the one that was asked for"),
        pytest.param(b"websocket", [(b"Upgrade", b"SPDY/3.1")], False, id="another one"),
        pytest.param(b"websocket", [], False, id="none"),
        pytest.param(b"websocket", [(b"Upgrade", b"websocket"), (b"Upgrade", b"h2c")], False, id="two"),
        pytest.param(None, [(b"Upgrade", b"websocket")], False, id="one that nobody asked for"),
    ],
)
def test_a_101_is_for_the_protocol_that_was_asked_for(
    asked: bytes | None, answered: list[Header], passed: bool
) -> None:
    assert inject.is_requested_upgrade(response(*answered, status=101), asked) is passed


def test_the_client_gets_its_own_framing() -> None:
    head = response((b"Transfer-Encoding", b"chunked"), (b"Keep-Alive", b"1"), (b"A", b"b"), body=BodyEnd.LAST_CHUNK)
    assert inject.render_response_head(head, close=True) == (
        b"HTTP/1.1 200 Why\r\nA: b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    switched = response((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), status=101, body=BodyEnd.CLOSE)
    assert inject.render_response_head(switched, close=False) == (
        b"HTTP/1.1 101 Why\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )


def test_who_closes_says_so_or_speaks_http_1_0() -> None:
    assert inject.announces_close(request((b"Connection", b"Keep-Alive, Close")))
    assert inject.announces_close(response(minor=0))
    assert not inject.announces_close(request())
