"""What a tunnel was granted, and how many one caller may have."""

from addons.access.grant import Asked, Grant, Limits
from addons.http1.messages import RequestHead
from connector_store.domain.errors import ParseError
from connector_store.domain.headers import Fields
from connector_store.domain.names import ObjectKey

A, B = ObjectKey("n", "a"), ObjectKey("n", "b")


def head(*fields: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"GET", b"/api", 1, Fields(fields), 0)


def grant(token: str | None) -> Grant:
    return Grant(key=A, authority="h:1", host="h", token=token)


def test_the_token_of_the_connect_is_that_of_each_request() -> None:
    assert grant("t").asked(head((b"Authorization", b"Bearer other"))) == Asked(A, "h:1", "t")


def test_else_each_request_brings_its_own() -> None:
    assert grant(None).asked(head((b"Authorization", b"Bearer own"))) == Asked(A, "h:1", "own")
    assert isinstance(grant(None).asked(head()).token, ParseError)


def test_no_text_form_shows_a_token() -> None:
    found = grant("canary")
    assert "canary" not in repr(found) + repr(found.asked(head()))


def test_connections_are_counted_by_caller_and_connector() -> None:
    limits = Limits()
    for user, key in (("u", A), ("u", A), ("u", B), ("v", A)):
        limits.take(user, key)
    limits.give_back("u", A)
    limits.give_back("u", B)
    assert limits.taken == {("u", A): 1, ("v", A): 1}
