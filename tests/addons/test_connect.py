"""A CONNECT becomes a tunnel or a refusal, without IO."""

from typing import cast

import pytest
from mitmproxy.proxy.events import HookCompleted

from addons.connect import Connect
from addons.limits import Limits
from addons.messages import RequestHead
from addons.questions import ConnectorMayUseHook
from addons.service import Service
from addons.tunnel import Tunnel
from connector_store.domain.access import Answer, Granted, Identity, Refused
from connector_store.domain.denial import Deny
from connector_store.domain.models import Target
from connector_store.domain.names import ObjectKey
from connector_store.trust import AddressPolicy
from tests.addons.test_inject import target

GRANTED = Granted(identity=Identity(user="u"))
BASIC = b"Basic dGVhbS1hL2s4czp0b2s="


class FakeService:
    """A Connector at h:443, and an access check that knows `known` by heart."""

    def __init__(self, known: Answer | None = GRANTED) -> None:
        self.known = known
        self.store = self.access = self
        self.policy = AddressPolicy()
        self.limits = Limits(1)

    def ready(self) -> bool:
        return True

    def get(self, key: ObjectKey) -> Target:
        return target("t")

    def cached(self, token: str, key: ObjectKey) -> Answer | None:
        return self.known


def connect(service: FakeService, authority: bytes = b"h:443", basic: bytes | None = BASIC) -> Connect:
    headers = [(b"Proxy-Authorization", basic)] if basic is not None else []
    head = RequestHead(b"CONNECT", authority, 1, headers, 0)
    return Connect(cast(Service, service), head, "10.0.0.1")


def test_who_may_use_the_connector_gets_a_tunnel_that_is_counted() -> None:
    service = FakeService()
    first, second = connect(service), connect(service)
    assert list(first.start()) == []
    assert isinstance(first.outcome, Tunnel)
    assert (first.outcome.host, first.outcome.token, first.identity) == ("h", "tok", GRANTED.identity)
    list(second.start())
    assert isinstance(second.outcome, Deny)
    assert second.outcome.status == 429


def test_what_is_not_known_is_asked_and_the_answer_decides() -> None:
    found = connect(FakeService(None))
    (hook,) = found.start()
    assert isinstance(hook, ConnectorMayUseHook)
    assert found.outcome is None
    found.handle(HookCompleted(ConnectorMayUseHook(hook.data)))
    assert found.outcome is None
    hook.data.answer = Refused(what="use", reason="")
    found.handle(HookCompleted(hook))
    assert isinstance(found.outcome, Deny)
    assert (found.outcome.status, found.key) == (403, ObjectKey("team-a", "k8s"))


@pytest.mark.parametrize(
    ("authority", "basic", "status"),
    [
        pytest.param(b"h:443", None, 407, id="no credentials"),
        pytest.param(b"h:443", b"Basic x", 407, id="credentials that cannot be read"),
        pytest.param(b"other:443", BASIC, 403, id="another address"),
    ],
)
def test_refusals_come_before_anything_is_asked(authority: bytes, basic: bytes | None, status: int) -> None:
    found = connect(FakeService(), authority, basic)
    assert list(found.start()) == []
    assert isinstance(found.outcome, Deny)
    assert found.outcome.status == status


@pytest.mark.parametrize("authority", [b"h", b"h:443/path", b"u@h:443", b"h:0"])
def test_with_password_x_the_authority_has_to_be_one(authority: bytes) -> None:
    found = connect(FakeService(), authority, b"Basic dGVhbS1hL2s4czp4")
    list(found.start())
    assert isinstance(found.outcome, Deny)
    assert found.outcome.status == 400


def test_with_password_x_the_caller_comes_later() -> None:
    found = connect(FakeService(), b"any:1", b"Basic dGVhbS1hL2s4czp4")
    list(found.start())
    assert isinstance(found.outcome, Tunnel)
    assert (found.outcome.token, found.outcome.give_back, found.identity) == (None, None, None)
