"""From the head of a CONNECT to a tunnel, or to the refusal that stands in its place.

Given `start`, then every event until `outcome` is there; it never pauses its layer. The client is not read meanwhile.
"""

from collections.abc import Callable, Iterator

from mitmproxy.proxy import events
from mitmproxy.proxy.commands import Command

from addons.messages import RequestHead
from addons.questions import ConnectorMayUseHook, MayUse, unpaused
from addons.service import Service
from addons.tunnel import Tunnel
from connector_store.domain import denial
from connector_store.domain.access import Answer, Granted, Identity
from connector_store.domain.caller import Caller, parse_proxy_authorization
from connector_store.domain.denial import Deny
from connector_store.domain.errors import ParseError
from connector_store.domain.headers import values
from connector_store.domain.matching import parse_address
from connector_store.domain.models import Address
from connector_store.domain.names import ObjectKey
from connector_store.domain.verdict import Defer, Forward, Inject, before_access, decide_connect

Step = Iterator[Command]


class Connect:
    """Of one client connection. `key` and `identity` are what is known for the record, whatever the outcome."""

    def __init__(self, service: Service, head: RequestHead, source_ip: str) -> None:
        self.outcome: Tunnel | Deny | None = None
        self.key: ObjectKey | None = None
        self.identity: Identity | None = None
        self._service = service
        self._head = head
        self._source_ip = source_ip
        self._authority = head.target.decode("ascii")
        self._asked: Command | None = None
        self._goes_on: Callable[[], None] | None = None

    def start(self) -> Step:
        """Take the credentials, and ask what is not known of them."""
        asked = before_access(synced=self._service.ready(), caller=self._caller())
        if isinstance(asked, Deny):
            self.outcome = asked
            return
        self.key = asked.key
        answer = None if asked.token is None else self._service.access.cached(asked.token, asked.key)
        if asked.token is None or answer is not None:
            self._decide(asked, answer)
            return
        question = MayUse(asked.key, asked.token)
        self._goes_on = lambda: self._decide(asked, question.answer)
        self._asked = unpaused(ConnectorMayUseHook(question), self)
        yield self._asked

    def handle(self, event: events.Event) -> None:
        """The answer to what was asked; other events are not of this CONNECT."""
        if isinstance(event, events.HookCompleted) and event.command is self._asked and self._goes_on is not None:
            self._asked = None
            self._goes_on()

    def _caller(self) -> Caller | ParseError:
        found = values(self._head.headers, b"proxy-authorization")
        try:
            return parse_proxy_authorization(found[0] if len(found) == 1 else None)
        except ParseError as error:
            return error

    def _decide(self, caller: Caller, answer: Answer | None) -> None:
        found = self._service.store.get(caller.key)
        if isinstance(answer, Granted) and found is not None:
            self.identity = answer.identity
        verdict = decide_connect(
            synced=self._service.ready(), caller=caller, answer=answer, found=found, authority=self._authority
        )
        address = _authority(self._authority)
        if isinstance(verdict, Deny):
            self.outcome = verdict
        elif address is None:
            self.outcome = denial.bad_request("the authority is not HOST:PORT")
        else:
            tunnel = Tunnel(
                key=caller.key,
                authority=self._authority,
                host=address.host,
                source_ip=self._source_ip,
                token=caller.token,
            )
            self.outcome = tunnel if isinstance(verdict, Defer) else self._admit(tunnel, verdict)

    def _admit(self, tunnel: Tunnel, verdict: Inject | Forward) -> Tunnel | Deny:
        host, identity = verdict.target.address.host, verdict.granted.identity
        if self._service.policy.denies(host):
            return denial.target_denied(verdict.target, host)
        tunnel.identity = identity
        tunnel.give_back = self._service.limits.take(identity.user, tunnel.key)
        return tunnel if tunnel.give_back is not None else denial.too_many(self._service.limits.maximum)


def _authority(text: str) -> Address | None:
    try:
        address = parse_address(f"https://{text}")
    except ParseError:
        return None
    return address if not address.prefix and text.rpartition(":")[2].isdigit() else None
