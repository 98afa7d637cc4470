"""Responses of the proxy itself. Each of them ends its connection."""

from addons.http1.messages import render_head
from addons.relay.pages import Page
from connector_store.domain.base.headers import Header
from connector_store.domain.decision.denial import Deny


def render_refusal(deny: Deny, *, on_connect: bool = False, with_body: bool = True) -> bytes:
    """Render a refusal. For CONNECT, the reason phrase has all information, because clients read nothing else."""
    head = b"HTTP/1.1 %d %b" % (deny.status, deny.phrase)
    return _render_response(head, list(deny.headers), b"" if on_connect else deny.body, with_body=with_body)


def render_page(page: Page, *, with_body: bool) -> bytes:
    """Render a page of the proxy."""
    headers = [(b"Content-Type", page.content_type), (b"Cache-Control", b"no-store")]
    return _render_response(b"HTTP/1.1 200 OK", headers, page.body, with_body=with_body)


def _render_response(status_line: bytes, headers: list[Header], body: bytes, *, with_body: bool) -> bytes:
    framing = [(b"Content-Length", b"%d" % len(body)), (b"Connection", b"close")]
    head = render_head(status_line, headers + framing)
    return head + body if with_body else head
