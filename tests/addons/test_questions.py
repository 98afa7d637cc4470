"""Questions begin with the answer that refuses, and show no token."""

from mitmproxy.proxy.commands import Command

from addons.questions import ConnectorMayUseHook, MayUse, Resolve, Visit, unpaused
from connector_store.domain.access import Unavailable
from connector_store.domain.denial import Deny
from connector_store.domain.models import Address
from connector_store.domain.names import ObjectKey

KEY = ObjectKey("n", "a")


def test_without_a_handler_everything_is_refused() -> None:
    assert isinstance(MayUse(KEY, "t").answer, Unavailable)
    assert Resolve(Address(host="h", port=1)).found == ()
    assert isinstance(Visit(b"GET", b"/", []).answer, Deny)


def test_a_question_shows_no_token() -> None:
    assert "canary" not in repr(ConnectorMayUseHook(MayUse(KEY, "canary")))
    assert "canary" not in repr(Visit(b"GET", b"/", [(b"Authorization", b"canary")]))


def test_a_command_is_completed_without_pausing_who_yields_it() -> None:
    layer = object()
    command = unpaused(Command(), layer)
    assert command.blocking is layer
