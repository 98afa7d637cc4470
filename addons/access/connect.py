"""From the head of a CONNECT to a tunnel, or to the refusal that stands in its place.

The client is not read meanwhile.
"""

from collections.abc import Callable

from addons.access.checks import NOBODY, may_use
from addons.access.grant import Grant
from addons.http1.messages import RequestHead
from addons.net.sockets import Sockets
from addons.relay.shared import Shared
from connector_store.domain import denial
from connector_store.domain.access import Answer, Granted, Identity
from connector_store.domain.caller import Caller, parse_proxy_authorization
from connector_store.domain.denial import Deny
from connector_store.domain.errors import ParseError
from connector_store.domain.matching import parse_address
from connector_store.domain.models import Address
from connector_store.domain.names import ObjectKey
from connector_store.domain.verdict import Defer, Forward, Inject, before_access, decide_connect


class Connect:
    """Of one client connection. `key` and `identity` are what is known for the record, whatever the outcome."""

    def __init__(self, service: Shared, head: RequestHead, source_ip: str, sockets: Sockets) -> None:
        self.key: ObjectKey | None = None
        self.identity: Identity | None = None
        self._service = service
        self._head = head
        self._source_ip = source_ip
        self._sockets = sockets
        self._authority = head.target.decode("ascii")

    def start(self, then: Callable[[Grant | Deny], None]) -> None:
        """Take the credentials, ask what is not known of them, and give `then` the outcome."""
        if self._service.recorder.full():
            then(denial.not_recorded())
            return
        asked = before_access(synced=self._service.ready(), caller=self._caller())
        if isinstance(asked, Deny):
            then(asked)
            return
        self.key = asked.key
        if asked.token is None:
            then(self._decide(asked, None))
            return
        known = self._service.access.cached(asked.token, asked.key)
        if known is not None:
            then(self._decide(asked, known))
            return
        work = may_use(self._service.access, asked.token, asked.key)
        self._sockets.wait_for("a check", work, NOBODY, lambda answer: then(self._decide(asked, answer)))

    def _caller(self) -> Caller | ParseError:
        try:
            return parse_proxy_authorization(self._head.headers.only(b"proxy-authorization"))
        except ParseError as error:
            return error

    def _decide(self, caller: Caller, answer: Answer | None) -> Grant | Deny:
        found = self._service.store.get(caller.key)
        if isinstance(answer, Granted) and found is not None:
            self.identity = answer.identity
        verdict = decide_connect(
            synced=self._service.ready(), caller=caller, answer=answer, found=found, authority=self._authority
        )
        address = _authority(self._authority)
        if isinstance(verdict, Deny):
            return verdict
        if address is None:
            return denial.bad_request("the authority is not HOST:PORT")
        tunnel = Grant(
            key=caller.key,
            authority=self._authority,
            host=address.host,
            source_ip=self._source_ip,
            token=caller.token,
        )
        return tunnel if isinstance(verdict, Defer) else self._admit(tunnel, verdict)

    def _admit(self, tunnel: Grant, verdict: Inject | Forward) -> Grant | Deny:
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
