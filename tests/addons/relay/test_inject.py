"""Rendering of heads: the credential is written once and replaces that of the caller."""

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


def test_the_credential_replaces_authorization_of_the_caller() -> None:
    head = request((b"Host", b"h"), (b"Authorization", b"Bearer fake"), (b"authorization", b"Basic x"))
    assert inject.render_request_head(head, INJECT, None, "1") == (
        b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer real\r\nAudit-ID: 1\r\n\r\n"
    )
    assert inject.render_request_head(head, FORWARD, None, "1") == b"GET /a HTTP/1.1\r\nHost: h\r\nAudit-ID: 1\r\n\r\n"


def test_the_target_gets_impersonation_headers_and_the_audit_id() -> None:
    head = request((b"Host", b"h"), (b"Audit-ID", b"of-the-caller"))
    impersonating = INJECT._replace(impersonation_headers=b"Impersonate-User: c:jane\r\n")
    assert inject.render_request_head(head, impersonating, None, "1") == (
        b"GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer real\r\nAudit-ID: 1\r\nImpersonate-User: c:jane\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("source_ip", "header"),
    [
        pytest.param("10.0.0.7", b"X-Forwarded-For: 10.0.0.7\r\n", id="IPv4"),
        pytest.param("2001:db8::7", b"X-Forwarded-For: 2001:db8::7\r\n", id="IPv6"),
        pytest.param("fe80::7%eth0", b"X-Forwarded-For: fe80::7\r\n", id="IPv6 with a zone"),
        pytest.param("", b"", id="hidden from the target"),
    ],
)
def test_the_client_address_replaces_forwarding_headers_of_the_caller(source_ip: str, header: bytes) -> None:
    head = request((b"Host", b"h"), (b"X-Forwarded-For", b"192.0.2.66"), (b"Forwarded", b"for=192.0.2.66"))
    assert inject.render_request_head(head, FORWARD, None, "1", source_ip) == (
        b"GET /a HTTP/1.1\r\nHost: h\r\nAudit-ID: 1\r\n%b\r\n" % header
    )


def test_warnings_are_added_to_those_of_the_target() -> None:
    head = response((b"Warning", b'299 - "old"'))
    rendered = inject.render_response_head(head, close=False, warnings=[(b"Warning", b'299 - "ours"')])
    assert rendered == b'HTTP/1.1 200 Why\r\nWarning: 299 - "old"\r\nWarning: 299 - "ours"\r\n\r\n'


def test_a_decision_to_inject_without_a_credential_is_an_error() -> None:
    issuing = IssuingCredential(BearerToken("real"), TokenRequest(service_account=ObjectKey("ci", "deployer")))
    for bad in (target(None), replace(target(None), credential=issuing)):
        with pytest.raises(ValueError, match="without a credential"):
            inject.render_request_head(request(), Inject(target=bad, grant=GRANTED), None, "1")


def test_with_a_client_certificate_authorization_is_removed_and_none_added() -> None:
    head = request((b"Host", b"h"), (b"Authorization", b"Bearer fake"))
    certified = replace(target(None), credential=ClientCertificate(b"chain", b"key"))
    rendered = inject.render_request_head(head, Inject(target=certified, grant=GRANTED), None, "1")
    assert rendered == b"GET /a HTTP/1.1\r\nHost: h\r\nAudit-ID: 1\r\n\r\n"


def test_framing_and_upgrade_headers_are_rendered() -> None:
    chunked = request((b"Transfer-Encoding", b"CHUNKED"), body=BodyEnd.LAST_CHUNK, method=b"POST")
    assert inject.render_request_head(chunked, FORWARD, None, "1") == (
        b"POST /a HTTP/1.1\r\nAudit-ID: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    upgrade = request((b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"SPDY/3.1"))
    assert inject.render_request_head(upgrade, FORWARD, b"spdy/3.1", "1") == (
        b"GET /a HTTP/1.1\r\nAudit-ID: 1\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("requested", "headers", "is_accepted"),
    [
        pytest.param(b"websocket", [(b"Upgrade", b"WebSocket")], True, id="the requested one"),
        pytest.param(b"websocket", [(b"Upgrade", b"SPDY/3.1")], False, id="another one"),
        pytest.param(b"websocket", [], False, id="none"),
        pytest.param(b"websocket", [(b"Upgrade", b"websocket"), (b"Upgrade", b"h2c")], False, id="two"),
        pytest.param(None, [(b"Upgrade", b"websocket")], False, id="one that was not requested"),
    ],
)
def test_a_101_must_switch_to_the_requested_protocol(
    requested: bytes | None, headers: list[Header], is_accepted: bool
) -> None:
    assert inject.is_requested_upgrade(response(*headers, status=101), requested) is is_accepted


def test_the_client_gets_its_own_framing() -> None:
    head = response((b"Transfer-Encoding", b"chunked"), (b"Keep-Alive", b"1"), (b"A", b"b"), body=BodyEnd.LAST_CHUNK)
    assert inject.render_response_head(head, close=True) == (
        b"HTTP/1.1 200 Why\r\nA: b\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    upgraded = response((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), status=101, body=BodyEnd.CLOSE)
    assert inject.render_response_head(upgraded, close=False) == (
        b"HTTP/1.1 101 Why\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )


def test_close_is_announced_by_a_header_or_http_1_0() -> None:
    assert inject.announces_close(request((b"Connection", b"Keep-Alive, Close")))
    assert inject.announces_close(response(minor=0))
    assert not inject.announces_close(request())
