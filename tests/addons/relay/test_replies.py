"""Whole answers of the proxy itself."""

import json

from addons.relay import replies
from addons.relay.pages import Page
from connector_store.domain.decision import denial


def test_inside_a_tunnel_a_refusal_is_a_status() -> None:
    head, _, body = replies.render_refusal(denial.bad_token(is_request=True)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 Unauthorized: ")
    assert b"Connection: close" in head
    assert b"Content-Length: %d" % len(body) in head
    assert json.loads(body)["code"] == 401


def test_on_connect_the_phrase_says_it_all() -> None:
    head, _, body = replies.render_refusal(denial.not_synced(), on_connect=True).partition(b"\r\n\r\n")
    assert b"Content-Length: 0" in head
    assert b"Retry-After: 1" in head
    assert body == b""


def test_a_head_request_gets_the_length_and_no_body() -> None:
    whole = replies.render_page(Page(content_type=b"text/plain", body=b"abc"), with_body=True)
    assert replies.render_page(Page(content_type=b"text/plain", body=b"abc"), with_body=False) + b"abc" == whole
