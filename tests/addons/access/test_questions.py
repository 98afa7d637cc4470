"""Questions begin with the answer that refuses, and show no token."""

from addons.access.questions import ConnectorMayUseHook, MayUse, Resolve, Visit
from connector_store.domain.access import Unavailable
from connector_store.domain.denial import Deny
from connector_store.domain.headers import Fields
from connector_store.domain.models import Address
from connector_store.domain.names import ObjectKey

KEY = ObjectKey("n", "a")


def test_without_a_handler_everything_is_refused() -> None:
    assert isinstance(MayUse(KEY, "t").answer, Unavailable)
    assert Resolve(Address(host="h", port=1)).found == ()
    assert isinstance(Visit(b"GET", b"/", Fields()).answer, Deny)


def test_a_question_shows_no_token() -> None:
    assert "canary" not in repr(ConnectorMayUseHook(MayUse(KEY, "canary")))
    assert "canary" not in repr(Visit(b"GET", b"/", Fields([(b"Authorization", b"canary")])))
