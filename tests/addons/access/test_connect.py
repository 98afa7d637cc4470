"""A CONNECT becomes a tunnel or a refusal, without IO."""

from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from addons.access.connect import Connect
from addons.access.grant import Grant
from addons.access.limits import Limits
from addons.http1.messages import RequestHead
from addons.net.sockets import Sockets
from addons.relay.shared import Shared
from connector_store.domain.access import Answer, Granted, Identity, Refused
from connector_store.domain.address_policy import AddressPolicy
from connector_store.domain.denial import Deny
from connector_store.domain.headers import Fields
from connector_store.domain.models import Target
from connector_store.domain.names import ObjectKey
from tests.addons.relay.test_inject import target

GRANTED = Granted(identity=Identity(user="u"))
BASIC = b"Basic dGVhbS1hL2s4czp0b2s="


class FakeService:
    """A Connector at h:443, and an access check that knows `known` by heart."""

    def __init__(self, known: Answer | None = GRANTED) -> None:
        self.known = known
        self.store = self.access = self
        self.policy = AddressPolicy()
        self.limits = Limits(1)
        self.recorder = self

    def full(self) -> bool:
        return False

    def ready(self) -> bool:
        return True

    def get(self, key: ObjectKey) -> Target:
        return target("t")

    def cached(self, token: str, key: ObjectKey) -> Answer | None:
        return self.known


class Asked:
    """A connect, what it waits for, and what came of it."""

    def __init__(self, service: FakeService, authority: bytes = b"h:443", basic: bytes | None = BASIC) -> None:
        headers = Fields([(b"Proxy-Authorization", basic)] if basic is not None else [])
        head = RequestHead(b"CONNECT", authority, 1, headers, 0)
        self.waits: list[Callable[[Answer], None]] = []
        self.outcomes: list[Grant | Deny] = []
        self.connect = Connect(cast(Shared, service), head, "10.0.0.1", cast(Sockets, self))
        self.connect.start(self.outcomes.append)

    def wait_for(self, name: str, work: Coroutine[Any, Any, Answer], _: Answer, then: Callable[[Answer], None]) -> None:
        work.close()
        self.waits.append(then)

    def refused(self) -> Deny:
        (outcome,) = self.outcomes
        assert isinstance(outcome, Deny)
        return outcome

    def opened(self) -> Grant:
        (outcome,) = self.outcomes
        assert isinstance(outcome, Grant)
        return outcome


def test_who_may_use_the_connector_gets_a_tunnel_that_is_counted() -> None:
    service = FakeService()
    first, second = Asked(service), Asked(service)
    tunnel = first.opened()
    assert (tunnel.host, tunnel.token, first.connect.identity) == ("h", "tok", GRANTED.identity)
    assert second.refused().status == 429


def test_what_is_not_known_is_asked_and_the_answer_decides() -> None:
    found = Asked(FakeService(None))
    (then,) = found.waits
    assert found.outcomes == []
    then(Refused(what="use", reason=""))
    assert (found.refused().status, found.connect.key) == (403, ObjectKey("team-a", "k8s"))


@pytest.mark.parametrize(
    ("authority", "basic", "status"),
    [
        pytest.param(b"h:443", None, 407, id="no credentials"),
        pytest.param(b"h:443", b"Basic x", 407, id="credentials that cannot be read"),
        pytest.param(b"other:443", BASIC, 403, id="another address"),
    ],
)
def test_refusals_come_before_anything_is_asked(authority: bytes, basic: bytes | None, status: int) -> None:
    found = Asked(FakeService(), authority, basic)
    assert found.waits == []
    assert found.refused().status == status


@pytest.mark.parametrize("authority", [b"h", b"h:443/path", b"u@h:443", b"h:0"])
def test_with_password_x_the_authority_has_to_be_one(authority: bytes) -> None:
    assert Asked(FakeService(), authority, b"Basic dGVhbS1hL2s4czp4").refused().status == 400


def test_with_password_x_the_caller_comes_later() -> None:
    found = Asked(FakeService(), b"any:1", b"Basic dGVhbS1hL2s4czp4")
    tunnel = found.opened()
    assert (tunnel.token, tunnel.give_back, found.connect.identity) == (None, None, None)
