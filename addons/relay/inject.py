"""A decision -> the bytes of the heads that go on. The one place where a credential is written."""

from collections.abc import Sequence
from typing import Final

from addons.http1.messages import RequestHead, ResponseHead, Until
from connector_store.domain.base.headers import Header
from connector_store.domain.credential.minting import IssuingCredential
from connector_store.domain.decision.verdict import Forward, Inject

_SPELLED: Final = {b"spdy/3.1": b"SPDY/3.1"}


def request_bytes(
    head: RequestHead, verdict: Inject | Forward, upgrade: bytes | None, audit_id: str, forwarded_for: str = ""
) -> bytes:
    """The head for the target, with the credential if the decision is `Inject`.

    By `audit_id` its audit log names the request; `forwarded_for` is the client's IP address there, if it may know.
    """
    pieces = [b"%b %b HTTP/1.1\r\n" % (head.method, head.target), head.headers.lines_to_target]
    if isinstance(verdict, Inject):
        credential = verdict.target.credential
        if credential is None or isinstance(credential, IssuingCredential):
            raise ValueError("a decision to inject without a credential that can be sent")
        if credential.authorization is not None:
            pieces.append(b"Authorization: %b\r\n" % credential.authorization)
    pieces.append(b"Audit-ID: %b\r\n" % audit_id.encode("ascii"))
    if forwarded_for:
        # A zone, of a link-local IPv6 address, means something on this machine only (RFC 4007 section 11.2).
        pieces.append(b"X-Forwarded-For: %b\r\n" % forwarded_for.partition("%")[0].encode("ascii"))
    if verdict.impersonation_headers:
        pieces.append(verdict.impersonation_headers)
    if head.body is Until.LAST_CHUNK:
        pieces.append(b"Transfer-Encoding: chunked\r\n")
    if upgrade is not None:
        pieces.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % _SPELLED.get(upgrade, upgrade))
    pieces.append(b"\r\n")
    return b"".join(pieces)


def response_bytes(head: ResponseHead, *, close: bool, warnings: Sequence[Header] = ()) -> bytes:
    """The head for the client; `close` tells it that its connection ends with this response."""
    pieces = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    pieces += [b"%b: %b\r\n" % each for each in (*head.headers.end_to_end, *warnings)]
    if head.status == 101:
        pieces.append(b"Connection: Upgrade\r\n")
        pieces += [b"Upgrade: %b\r\n" % each for each in head.headers.values(b"upgrade")]
    elif head.body is Until.LAST_CHUNK:
        pieces.append(b"Transfer-Encoding: chunked\r\n")
    if close:
        pieces.append(b"Connection: close\r\n")
    pieces.append(b"\r\n")
    return b"".join(pieces)


def accepted_upgrade(head: ResponseHead, asked: bytes | None) -> bool:
    """True if a 101 switches to the very protocol that the request asked for."""
    return asked is not None and [each.lower() for each in head.headers.values(b"upgrade")] == [asked]


def is_last(head: RequestHead | ResponseHead) -> bool:
    """True if its sender ends the connection with this message (RFC 9112 section 9.6)."""
    return head.minor == 0 or b"close" in head.headers.connection_options
