"""From a request's head to the decision on it: who asks, may he, and what a watcher does with it.

The client is not read meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass

from addons.access.checks import NOBODY, may_use
from addons.access.live import Live
from addons.http1.messages import Invalid
from addons.net.sockets import Sockets
from addons.relay import inject
from addons.relay.exchange import Exchange
from addons.relay.flows import Observation
from addons.relay.shared import Shared
from connector_store.domain import denial
from connector_store.domain.access import Answer, Granted
from connector_store.domain.caller import parse_bearer
from connector_store.domain.denial import Deny
from connector_store.domain.errors import ParseError
from connector_store.domain.verdict import Forward, Inject, decide_request


@dataclass(frozen=True, slots=True)
class Answered:
    """A watcher answered in the target's place."""

    status: int
    response: bytes


@dataclass(frozen=True, slots=True)
class Killed:
    """A watcher ended it."""


Outcome = Inject | Forward | Deny | Answered | Killed


class Admission:
    """Of one request, the one of `turn`; `then` gets the outcome, at once where nothing has to be waited for."""

    def __init__(self, service: Shared, turn: Exchange, line: Sockets, then: Callable[[Outcome], None]) -> None:
        self._service = service
        self._turn = turn
        self._tunnel = turn.tunnel
        self._line = line
        self._then = then

    def start(self) -> None:
        """Take the token, and ask what is not known of it."""
        turn = self._turn
        if self._service.recorder.full():
            self._then(denial.not_recorded())
            return
        if turn.head.method not in inject.METHODS:
            self._then(denial.bad_request("a method that the Kubernetes API does not have"))
            return
        try:
            turn.token = self._tunnel.token or parse_bearer(turn.head.headers.only(b"authorization"))
        except ParseError as error:
            self._decide(error)
            return
        self._ask(self._decide)

    def _ask(self, then: Callable[[Answer], None]) -> None:
        access, token, key = self._service.access, self._turn.token, self._tunnel.key
        known = access.cached(token, key)
        if known is not None:
            then(known)
        else:
            self._line.wait_for("a check", may_use(access, token, key), NOBODY, then)

    def _decide(self, answer: Answer | ParseError) -> None:
        verdict = self._verdict(answer, self._tunnel.authority)
        if isinstance(verdict, Deny):
            self._then(verdict)
            return
        turn, tunnel = self._turn, self._tunnel
        if tunnel.give_back is None:
            tunnel.give_back = self._service.limits.take(verdict.granted.identity.user, tunnel.key)
        if tunnel.give_back is None:
            self._then(denial.too_many(self._service.limits.maximum))
            return
        turn.upgrade = inject.wants_upgrade(turn.head)
        if self._service.watched:
            self._show(verdict)
        else:
            self._admit(verdict)

    def _verdict(self, answer: Answer | ParseError, authority: str) -> Inject | Forward | Deny:
        found = self._service.store.get(self._tunnel.key)
        if isinstance(answer, Granted) and found is not None:
            self._turn.identity = answer.identity
        return decide_request(
            synced=self._service.ready(),
            key=self._tunnel.key,
            answer=answer,
            found=found,
            authority=authority,
            raw_target=self._turn.head.target,
            headers=self._turn.head.headers,
        )

    def _admit(self, verdict: Inject | Forward) -> None:
        self._turn.verdict = verdict
        self._turn.live = Live(verdict.target, self._turn.token, verdict.granted)
        self._then(verdict)

    # Where somebody watches

    def _show(self, verdict: Inject | Forward) -> None:
        found = Observation(self._line.client, self._turn.head, verdict.target, keep=self._service.keep_body)
        self._turn.observation = found
        self._line.ask(found.request_headers_hook(), lambda: self._shown(found))

    def _shown(self, found: Observation) -> None:
        if found.killed:
            self._then(Killed())
            return
        self._line.ask(found.request_hook(), lambda: self._seen(found))

    def _seen(self, found: Observation) -> None:
        """Somebody may have edited, answered or killed it, and all that it rests on may have changed meanwhile."""
        answer, edited = found.answer(), found.edited()
        if found.killed:
            self._then(Killed())
        elif answer is not None:
            self._then(Answered(*answer))
        elif isinstance(edited, Invalid):
            self._then(denial.bad_request(f"the edited request: {edited.reason}"))
        else:
            self._turn.head = edited or self._turn.head
            self._ask(lambda again: self._again(found, again))

    def _again(self, found: Observation, answer: Answer) -> None:
        again = self._verdict(answer, found.authority)
        if isinstance(again, Deny):
            self._then(again)
        elif self._turn.head.method not in inject.METHODS:
            self._then(denial.bad_request("a method that the Kubernetes API does not have"))
        else:
            self._admit(again)
