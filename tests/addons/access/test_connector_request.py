"""The Connector that a request is for, and the token in it."""

from base64 import b64encode

from addons.access.connector_request import ConnectorRequest, parse_bearer_token, parse_connect
from addons.http1.messages import RequestHead
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey

A = ObjectKey("n", "a")


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"/api", 1, Headers(fields), 0)


def test_a_bearer_token_is_parsed_or_reported_as_unreadable() -> None:
    assert parse_bearer_token(head((b"Authorization", b"Bearer own"))) == "own"
    assert isinstance(parse_bearer_token(head()), ParseError)


def test_no_text_form_shows_a_token() -> None:
    assert "canary" not in repr(ConnectorRequest(A, "h:1", "canary"))


def test_the_head_of_a_connect_is_parsed() -> None:
    def connect(*fields: tuple[bytes, bytes]) -> ConnectorRequest:
        return parse_connect(RequestHead(b"CONNECT", b"h:1", 1, Headers(fields), 0))

    assert connect((b"Proxy-Authorization", b"Basic " + b64encode(b"n/a:t"))) == (A, "h:1", "t")
    assert connect((b"Proxy-Authorization", b"Basic " + b64encode(b"n/a:x"))) == (A, "h:1", None)
    unreadable = connect()
    assert unreadable.key is None
    assert isinstance(unreadable.token, ParseError)
