"""Rendering of the proxy's own responses."""

import json

from addons.relay import replies
from addons.relay.pages import Page
from connector_store.domain.decision import denial


def test_a_refusal_in_a_tunnel_has_a_kubernetes_status() -> None:
    head, _, body = replies.render_refusal(denial.bad_token(on_connect=False)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 Unauthorized: ")
    assert b"Connection: close" in head
    assert b"Content-Length: %d" % len(body) in head
    assert json.loads(body)["code"] == 401


def test_a_refusal_of_discovery_is_a_text_with_the_same_warning() -> None:
    deny = denial.not_synced()
    head, _, body = replies.render_refusal(deny, is_discovery=True).partition(b"\r\n\r\n")
    assert body == b"the proxy has not read all Connectors yet; try again in a moment"
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in head
    assert b"application/json" not in head
    assert b"Warning: 299 kubernetes-connector" in head


def test_a_refusal_of_a_connect_has_no_body() -> None:
    head, _, body = replies.render_refusal(denial.not_synced(), on_connect=True).partition(b"\r\n\r\n")
    assert b"Content-Length: 0" in head
    assert b"Retry-After: 1" in head
    assert body == b""


def test_a_response_to_head_has_a_length_and_no_body() -> None:
    complete = replies.render_page(Page(content_type=b"text/plain", body=b"abc"), with_body=True)
    assert replies.render_page(Page(content_type=b"text/plain", body=b"abc"), with_body=False) + b"abc" == complete
