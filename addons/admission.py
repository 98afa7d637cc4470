"""From a request's head to the decision on it: who asks, may he, and what a watcher does with it.

Like a `Dial` it is given `start`, then every event until `outcome` is there; it never pauses its layer. The client is
not read meanwhile.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mitmproxy import connection
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import Command, StartHook

from addons import inject
from addons.messages import Invalid
from addons.observe import Observation
from addons.questions import ConnectorMayUseHook, MayUse, unpaused
from addons.service import Service
from addons.streams import Live
from addons.turn import Turn
from connector_store.domain import denial
from connector_store.domain.access import Answer, Granted
from connector_store.domain.caller import parse_bearer
from connector_store.domain.denial import Deny
from connector_store.domain.errors import ParseError
from connector_store.domain.headers import values
from connector_store.domain.verdict import Forward, Inject, decide_request

Step = Iterator[Command]


@dataclass(frozen=True, slots=True)
class Answered:
    """A watcher answered in the target's place."""

    status: int
    response: bytes


@dataclass(frozen=True, slots=True)
class Killed:
    """A watcher ended it."""


Outcome = Inject | Forward | Deny | Answered | Killed | None


class Admission:
    """Of one request, the one of `turn`."""

    def __init__(self, service: Service, turn: Turn, client: connection.Client) -> None:
        self.outcome: Outcome = None
        self._service = service
        self._turn = turn
        self._tunnel = turn.tunnel
        self._client = client
        self._asked: Command | None = None
        self._goes_on: Callable[[], Step] | None = None

    def start(self) -> Step:
        """Take the token, and ask what is not known of it."""
        turn = self._turn
        if turn.head.method not in inject.METHODS:
            self.outcome = denial.bad_request("a method that the Kubernetes API does not have")
            return
        try:
            turn.token = self._tunnel.token or parse_bearer(_only(values(turn.head.headers, b"authorization")))
        except ParseError as error:
            yield from self._decide(error)
            return
        answer = self._service.access.cached(turn.token, self._tunnel.key)
        if answer is not None:
            yield from self._decide(answer)
            return
        question = MayUse(self._tunnel.key, turn.token)
        yield from self._ask(ConnectorMayUseHook(question), lambda: self._decide(question.answer))

    def handle(self, event: events.Event) -> Step:
        """The answers to what was asked; other events are not of this admission."""
        if isinstance(event, events.HookCompleted) and event.command is self._asked and self._goes_on is not None:
            self._asked = None
            yield from self._goes_on()

    def _ask(self, hook: StartHook, goes_on: Callable[[], Step]) -> Step:
        self._goes_on = goes_on
        self._asked = unpaused(hook, self)
        yield self._asked

    def _decide(self, answer: Answer | ParseError) -> Step:
        verdict = self._verdict(answer, self._tunnel.authority)
        if isinstance(verdict, Deny):
            self.outcome = verdict
            return
        turn, identity = self._turn, verdict.granted.identity
        if self._tunnel.give_back is None:
            self._tunnel.give_back = self._service.limits.take(identity.user, self._tunnel.key)
        if self._tunnel.give_back is None:
            self.outcome = denial.too_many(self._service.limits.maximum)
            return
        turn.upgrade = inject.wants_upgrade(turn.head)
        if self._service.watched:
            yield from self._show(verdict)
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
        self.outcome = verdict

    # Where somebody watches

    def _show(self, verdict: Inject | Forward) -> Step:
        found = Observation(self._client, self._turn.head, verdict.target, keep=self._service.keep_body)
        self._turn.observation = found
        yield from self._ask(found.request_headers_hook(), lambda: self._shown(found, verdict))

    def _shown(self, found: Observation, verdict: Inject | Forward) -> Step:
        if found.killed:
            self.outcome = Killed()
            return
        yield from self._ask(found.request_hook(), lambda: self._seen(found, verdict))

    def _seen(self, found: Observation, verdict: Inject | Forward) -> Step:
        """Somebody may have edited, answered or killed it, and the store may have changed while he thought."""
        yield from ()
        answer, edited = found.answer(), found.edited()
        if found.killed:
            self.outcome = Killed()
        elif answer is not None:
            self.outcome = Answered(*answer)
        elif isinstance(edited, Invalid):
            self.outcome = denial.bad_request(f"the edited request: {edited.reason}")
        else:
            self._turn.head = edited or self._turn.head
            self._again(found, verdict)

    def _again(self, found: Observation, verdict: Inject | Forward) -> None:
        again = self._verdict(verdict.granted, found.authority)
        if isinstance(again, Deny):
            self.outcome = again
        elif self._turn.head.method not in inject.METHODS:
            self.outcome = denial.bad_request("a method that the Kubernetes API does not have")
        else:
            self._admit(again)


def _only(found: list[bytes]) -> bytes | None:
    """The one value of a header; several are as good as an unreadable one."""
    return found[0] if len(found) == 1 else None
