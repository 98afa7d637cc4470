"""Questions of our layers to our addons: hooks of our own, so that the answer may be awaited.

Each begins with the answer that refuses; only its handler turns it into another. Who asks goes on with other things
meanwhile, and is called when the hook has run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mitmproxy.proxy.commands import StartHook

from addons.relay.pages import Page
from connector_store.domain import denial
from connector_store.domain.access import Access, Answer, Unavailable
from connector_store.domain.denial import Deny
from connector_store.domain.headers import Fields
from connector_store.domain.models import Address
from connector_store.domain.names import ObjectKey


@dataclass
class MayUse:
    """May the caller with this token use the Connector?"""

    key: ObjectKey
    token: str = field(repr=False)
    answer: Answer = field(default_factory=lambda: Unavailable(reason="nobody answered", retry_after=1))


@dataclass
class Resolve:
    """Which IP addresses does a target have? Empty: none, and `problem` says why."""

    address: Address
    found: tuple[str, ...] = ()
    problem: str = "its name was not resolved"


@dataclass
class Visit:
    """A request to the proxy itself."""

    method: bytes
    target: bytes
    headers: Fields = field(repr=False)
    answer: Page | Deny = field(default_factory=denial.internal)


@dataclass
class ConnectorMayUseHook(StartHook):
    """A token has to be checked."""

    data: MayUse


@dataclass
class ConnectorResolveHook(StartHook):
    """A target's name has to be resolved."""

    data: Resolve


@dataclass
class ConnectorVisitHook(StartHook):
    """Somebody asks the proxy itself."""

    data: Visit


class Ask(Protocol):
    """Runs hooks: a `Sockets`."""

    def ask(self, hook: StartHook, then: Callable[[], None]) -> None:
        """Run `hook`, then call `then`, unless what asked has ended."""


def ask_may_use(access: Access, ask: Ask, token: str, key: ObjectKey, then: Callable[[Answer], None]) -> None:
    """Give `then` the answer: at once where it is known, else when it was asked for."""
    known = access.cached(token, key)
    if known is not None:
        then(known)
        return
    question = MayUse(key, token)
    ask.ask(ConnectorMayUseHook(question), lambda: then(question.answer))
