"""Rendering of forwarded heads. This is the only module that writes a credential."""

from collections.abc import Sequence
from typing import Final

from addons.http1.messages import BodyEnd, RequestHead, ResponseHead
from connector_store.domain.base.headers import Header
from connector_store.domain.credential.token_request import IssuingCredential
from connector_store.domain.decision.decide import Forward, Inject

_UPGRADE_SPELLING: Final = {b"spdy/3.1": b"SPDY/3.1"}


def render_request_head(
    head: RequestHead, decision: Inject | Forward, upgrade: bytes | None, audit_id: str, forwarded_for: str = ""
) -> bytes:
    """Render the head for the target, with the credential if the decision is `Inject`.

    The target's audit log contains `audit_id`. `forwarded_for` is the IP address of the client, empty to hide it.
    """
    # Joined at the end, because each format with `%` costs as much as the whole join.
    pieces = [head.method, b" ", head.target, b" HTTP/1.1\r\n", head.headers.lines_to_target]
    if isinstance(decision, Inject):
        credential = decision.target.credential
        if credential is None or isinstance(credential, IssuingCredential):
            raise ValueError("a decision to inject without a credential that can be sent")
        if credential.authorization is not None:
            pieces += (b"Authorization: ", credential.authorization, b"\r\n")
    pieces += (b"Audit-ID: ", audit_id.encode("ascii"), b"\r\n")
    if forwarded_for:
        # The zone of a link-local IPv6 address is valid on this machine only (RFC 4007 section 11.2).
        pieces += (b"X-Forwarded-For: ", forwarded_for.partition("%")[0].encode("ascii"), b"\r\n")
    if decision.impersonation_headers:
        pieces.append(decision.impersonation_headers)
    if head.body is BodyEnd.LAST_CHUNK:
        pieces.append(b"Transfer-Encoding: chunked\r\n")
    if upgrade is not None:
        pieces += (b"Connection: Upgrade\r\nUpgrade: ", _UPGRADE_SPELLING.get(upgrade, upgrade), b"\r\n")
    pieces.append(b"\r\n")
    return b"".join(pieces)


def render_response_head(head: ResponseHead, *, close: bool, warnings: Sequence[Header] = ()) -> bytes:
    """Render the head for the client. `close` announces the end of the connection after this response."""
    lines = [b"HTTP/1.1 %d %b" % (head.status, head.reason)]
    lines += [b": ".join(header) for header in (*head.headers.end_to_end, *warnings)]
    if head.status == 101:
        lines.append(b"Connection: Upgrade")
        lines += [b"Upgrade: %b" % protocol for protocol in head.headers.values(b"upgrade")]
    elif head.body is BodyEnd.LAST_CHUNK:
        lines.append(b"Transfer-Encoding: chunked")
    if close:
        lines.append(b"Connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def is_requested_upgrade(head: ResponseHead, requested: bytes | None) -> bool:
    """Return True if a 101 switches to exactly the protocol that the request asked for."""
    return requested is not None and [protocol.lower() for protocol in head.headers.values(b"upgrade")] == [requested]


def announces_close(head: RequestHead | ResponseHead) -> bool:
    """Return True if the sender closes the connection after this message (RFC 9112 section 9.6)."""
    return head.minor_version == 0 or b"close" in head.headers.connection_options
