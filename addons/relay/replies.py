"""Responses of the proxy itself. Each of them ends its connection."""

from typing import Final

from addons.http1.messages import render_head
from addons.relay.pages import Page
from connector_store.domain.base.headers import Header
from connector_store.domain.decision.denial import Deny

_TEXT: Final = (b"Content-Type", b"text/plain; charset=utf-8")


def render_refusal(
    deny: Deny, *, on_connect: bool = False, is_discovery: bool = False, with_body: bool = True
) -> bytes:
    """Render a refusal. For CONNECT, the reason phrase has all information, because clients read nothing else.

    For discovery, the body is a text, because kubectl's last line shows it. A Status becomes "unknown" there.
    """
    head = b"HTTP/1.1 %d %b" % (deny.status, deny.phrase)
    headers = [_TEXT if is_discovery and name == b"Content-Type" else (name, value) for name, value in deny.headers]
    body = b"" if on_connect else deny.text if is_discovery else deny.body
    return _render_response(head, headers, body, with_body=with_body)


def render_page(page: Page, *, with_body: bool) -> bytes:
    """Render a page of the proxy."""
    headers = [(b"Content-Type", page.content_type), (b"Cache-Control", b"no-store")]
    return _render_response(b"HTTP/1.1 200 OK", headers, page.body, with_body=with_body)


def _render_response(status_line: bytes, headers: list[Header], body: bytes, *, with_body: bool) -> bytes:
    framing = [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    head = render_head(status_line, headers + framing)
    return head + body if with_body else head
