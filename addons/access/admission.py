"""From a head to the decision on it: who asks, may it, is there a place. Values go in, one frozen value comes out.

The client is not read while a check is waited for.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from addons.access.checks import NOBODY, Checks, ask
from addons.access.grant import Asked
from addons.access.lending import NotYet
from addons.http1.messages import RequestHead
from addons.net.sockets import Sockets
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity
from connector_store.domain.callers.caller import BasicAuthorization, parse_proxy_authorization
from connector_store.domain.credential.minting import IssuingCredential
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.verdict import (
    AuthenticateInTunnel,
    Resolution,
    Verdict,
    decide_connect,
    decide_request,
    precheck_connect,
    precheck_request,
)
from connector_store.domain.objects.models import Target


class Decision(NamedTuple):
    """A verdict, and for the records what is known of its caller; `token` is the one that was checked."""

    verdict: Verdict | AuthenticateInTunnel
    key: ObjectKey | None
    identity: Identity | None = None
    token: str | None = None

    def __repr__(self) -> str:
        return f"Decision({self.key}, {type(self.verdict).__name__})"


Then = Callable[[Decision], None]


class Admission:
    """Of one client connection, which has its place among those of its caller to a Connector."""

    def __init__(self, checks: Checks, sockets: Sockets) -> None:
        self._checks = checks
        self._sockets = sockets
        self._place: tuple[str, ObjectKey] | None = None
        self._held: tuple[str, ObjectKey, int] | None = None
        """Whose answer `_granted` is: the token, the Connector, and what was withdrawn before it."""
        self._granted: Granted | None = None
        sockets.on_close(self._leave)

    def connect(self, head: RequestHead, then: Then) -> Decision | None:
        """The decision on a CONNECT; None where it takes a while: then `then` gets it."""
        checks = self._checks
        full = checks.full is not None and checks.full()
        asked = precheck_connect(audit_log_full=full, synced=not checks.missing, credentials=_caller(head))
        if isinstance(asked, Deny):
            return Decision(asked, None)
        if asked.token is None:
            return self._connect(head, asked, None, None)
        answer, found = self._known(asked.token, asked.key)
        if answer is not None:
            return self._connect(head, asked, answer, found)
        self._wait(asked.token, asked.key, lambda *checked: then(self._connect(head, asked, *checked)))
        return None

    def request(self, head: RequestHead, asked: Asked, then: Then) -> Decision | None:
        """The decision on a request; None where it takes a while: then `then` gets it."""
        checks, token = self._checks, asked.token
        if isinstance(token, ParseError):
            return self._request(head, asked, None, None)
        answer, found = self._known(token, asked.key)
        if answer is not None:
            return self._request(head, asked, answer, found)
        full = checks.full is not None and checks.full()
        refused = precheck_request(audit_log_full=full, method=head.method, synced=not checks.missing, token=token)
        if refused is not None:
            return Decision(refused, asked.key)
        self._wait(token, asked.key, lambda *checked: then(self._request(head, asked, *checked)))
        return None

    def _known(self, token: str, key: ObjectKey) -> tuple[AccessResult | None, Resolution]:
        """As `known`; an answer that holds is not looked for again."""
        checks, granted = self._checks, self._granted
        asked = (token, key, checks.access.revocation_count)
        if granted is not None and asked == self._held and time.monotonic() < granted.valid_until:
            return _known(checks, granted, key)
        answer, found = known(checks, token, key)
        self._held, self._granted = asked, answer if isinstance(answer, Granted) else None
        return answer, found

    def _wait(self, token: str, key: ObjectKey, then: Callable[[AccessResult, Resolution], None]) -> None:
        """`then` gets the answer, and what is there when it has come."""
        checks, sockets = self._checks, self._sockets
        sockets.hold()
        work = ask(checks, token, key, sockets.source_ip)
        sockets.wait_for("a check", work, NOBODY, lambda answer: then(answer, checks.lending.find(key)))

    def _connect(
        self, head: RequestHead, asked: BasicAuthorization, answer: AccessResult | None, found: Resolution
    ) -> Decision:
        checks = self._checks
        verdict = decide_connect(
            audit_log_full=checks.full is not None and checks.full(),
            synced=not checks.missing,
            credentials=asked,
            access=answer,
            resolution=found,
            authority=head.target.decode("ascii"),
            policy=checks.rules,
            connection_count=self._taken(answer, asked.key),
        )
        return self._decided(verdict, asked.key, asked.token, answer, found)

    def _request(self, head: RequestHead, asked: Asked, answer: AccessResult | None, found: Resolution) -> Decision:
        checks = self._checks
        verdict = decide_request(
            audit_log_full=checks.full is not None and checks.full(),
            method=head.method,
            synced=not checks.missing,
            token=asked.token,
            key=asked.key,
            access=answer,
            resolution=found,
            authority=asked.authority,
            raw_target=head.target,
            headers=head.headers,
            policy=checks.rules,
            connection_count=self._taken(answer, asked.key),
        )
        token = asked.token if isinstance(asked.token, str) else None
        return self._decided(verdict, asked.key, token, answer, found)

    def _taken(self, answer: AccessResult | None, key: ObjectKey) -> int:
        """Other connections of the caller to the Connector."""
        if not isinstance(answer, Granted):
            return 0
        place = (answer.identity.user, key)
        return self._checks.taken[place] - (place == self._place)

    def _decided(
        self,
        verdict: Verdict | AuthenticateInTunnel,
        key: ObjectKey,
        token: str | None,
        answer: AccessResult | None,
        found: Resolution,
    ) -> Decision:
        # Who may not know of a Connector is not named beside it.
        known = answer.identity if isinstance(answer, Granted) and found is not None else None
        if known is not None and not isinstance(verdict, Deny) and self._place != (known.user, key):
            self._take((known.user, key))
        return Decision(verdict, key, known, token)

    def _take(self, place: tuple[str, ObjectKey]) -> None:
        if self._place is None:
            self._sockets.known()
        else:
            self._leave()
        self._place = place
        self._checks.taken[place] += 1

    def _leave(self) -> None:
        place, self._place = self._place, None
        if place is None:
            return
        taken = self._checks.taken
        taken[place] -= 1
        if not taken[place]:
            del taken[place]


def known(checks: Checks, token: str, key: ObjectKey) -> tuple[AccessResult | None, Resolution]:
    """What is known without waiting: the answer, None where `ask` is to be waited for; and what is there."""
    return _known(checks, checks.access.check_cached(token, key), key)


def _known(checks: Checks, answer: AccessResult | None, key: ObjectKey) -> tuple[AccessResult | None, Resolution]:
    found = checks.lending.held(key)
    if isinstance(found, Target) and isinstance(found.credential, IssuingCredential):
        found = checks.lending.find(key)
        if isinstance(found, NotYet) and isinstance(answer, Granted):
            return None, found
    if answer is not None:
        checks.tally.remembered += 1
    return answer, found


def _caller(head: RequestHead) -> BasicAuthorization | ParseError:
    try:
        return parse_proxy_authorization(head.headers.single_value(b"proxy-authorization"))
    except ParseError as error:
        return error
