"""Callers by the API server: TokenReview, then SubjectAccessReview, cached, and each asked once at a time.

A token is known by its digest only. What was granted lives for `recheck` seconds and never past the token's expiry,
what was refused for a few seconds, and that the API server could not be asked for no time at all. Callers are never
queued: what is too much is answered with Unavailable.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from connector_store.cache import ExpiringCache
from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.callers.token_claims import parse_issuer, rejection_reason
from connector_store.domain.config.settings import AccessRule
from connector_store.kube.budget import Budget
from connector_store.kube.client import KubeClient
from connector_store.kube.review import review_access, review_owner, review_token, service_account
from connector_store.single_flight import SingleFlight

RECHECK: Final = 30.0
"""Seconds; the option `connector_recheck`."""

REFUSED_FOR: Final = 3.0
"""Seconds that a refusal is remembered: who was just given a right does not wait long for it."""

_GRANTED_SIZE: Final = 20_000
_REFUSED_SIZE: Final = 2_000
IN_FLIGHT: Final = 500
"""Reviews under way; more are Unavailable at once."""

UNKNOWN_PER_SECOND: Final = 1.0
UNKNOWN_BURST: Final = 100
"""Reviews of tokens whose issuer nobody's accepted token has had yet: enough to learn a new one, and no load."""

_ISSUERS: Final = 64
"""Issuers that are known at most; an API server has one, and two while it changes."""

_SKEW: Final = 10.0
"""Seconds before its expiry from which a token's refusal may mean no more than that."""

_Digest = bytes
_Observe = Callable[[Literal["token", "use", "owner"], str], None]


@dataclass(frozen=True, slots=True)
class _Known[V]:
    value: V
    asked_at: float


class KubeAccess:
    """`domain.access.Access` of a cluster."""

    def __init__(
        self,
        client: KubeClient,
        *,
        audience: str,
        rule: AccessRule,
        recheck: float = RECHECK,
        refused_for: float = REFUSED_FOR,
        in_flight: int = IN_FLIGHT,
        issuers: Iterable[str] = (),
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        on_review: _Observe = lambda what, result: None,
    ) -> None:
        """`refused_for=0` remembers no refusal. `on_review` gets each review's kind and `ok`, `refused` or `error`.

        `issuers` are known to be the API server's own, as that of our token; others are learnt from what it accepts.
        `now` is for what tokens say, in unix seconds; what is remembered is timed by `clock`, which nobody sets back.
        """
        self._client = client
        self._audience = audience
        self._rule = rule
        self._recheck = recheck
        self._refused_for = refused_for
        self._now = now
        self._clock = clock
        self._issuers = {each for each in issuers if each}
        self._unknown = Budget(UNKNOWN_PER_SECOND, UNKNOWN_BURST)
        self._on_review = on_review
        self.revocation_count = 0
        # Apart from each other, so that a flood of bad tokens pushes no good one out.
        self._tokens = ExpiringCache[_Digest, _Known[Granted]](_GRANTED_SIZE)
        self._uses = ExpiringCache[tuple[_Digest, ObjectKey], _Known[Literal[True]]](_GRANTED_SIZE)
        self._refused_tokens = ExpiringCache[_Digest, Refused](_REFUSED_SIZE)
        self._refused_uses = ExpiringCache[tuple[_Digest, ObjectKey], Refused](_REFUSED_SIZE)
        self._owners = ExpiringCache[Identity, Literal[True]](_GRANTED_SIZE)
        self._flights = SingleFlight(most=in_flight, what="reviews")

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        """The answer if it is known; None if it must be asked for. Never waits."""
        digest = _digest(token)
        now = self._clock()
        who = self._known_token(digest, now) or self._impossible(token)
        if not isinstance(who, Granted):
            return who
        used = self._uses.get((digest, key), now=now)
        if used is None:
            return self._refused_uses.get((digest, key), now=now)
        return replace(who, holds_until=min(who.valid_until, used.asked_at + self._recheck))

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        """Authenticate, then ask for the right to use `key`, also if there is no such Connector."""
        digest = _digest(token)
        who = (
            self._known_token(digest, self._clock()) or self._impossible(token) or await self._ask_token(digest, token)
        )
        if not isinstance(who, Granted):
            return who
        use = self._known_use(digest, key, self._clock()) or await self._ask_use(digest, who.identity, key)
        return who if use is True else use

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        """The answer for a live stream; expiry alone is no refusal while the token's owner is there.

        Streams of one caller share reviews of at most a third of `recheck` ago: asked every half of it, a right that
        was taken away is noticed within `recheck`.
        """
        digest = _digest(token)
        since = self._clock() - self._recheck / 3
        expires = read_token_times(token).expires_at
        who: AccessResult = Granted(identity=identity, token_expires_at=expires)
        if expires is not None and expires <= self._now() + _SKEW:
            # The token can be reviewed no more: its owner is looked for instead.
            owner = self._owners.get(identity, now=self._clock()) or await self._ask_owner(identity, expires)
            if owner is not True:
                return owner
        else:
            known = self._tokens.get(digest, now=self._clock())
            fresh = known.value if known is not None and known.asked_at >= since else None
            who = fresh or await self._ask_token(digest, token)
            if not isinstance(who, Granted):
                return who
        used = self._uses.get((digest, key), now=self._clock())
        if used is not None and used.asked_at >= since:
            return who
        use = await self._ask_use(digest, identity, key)
        return who if use is True else use

    def _impossible(self, token: str) -> Refused | None:
        """What no API server would accept need not be asked for."""
        why = rejection_reason(token, self._audience, now=self._now())
        return Refused(check="token", reason=why) if why is not None else None

    def _known_token(self, digest: _Digest, now: float) -> Granted | Refused | None:
        known = self._tokens.get(digest, now=now)
        return known.value if known is not None else self._refused_tokens.get(digest, now=now)

    def _known_use(self, digest: _Digest, key: ObjectKey, now: float) -> Literal[True] | Refused | None:
        known = self._uses.get((digest, key), now=now)
        return known.value if known is not None else self._refused_uses.get((digest, key), now=now)

    async def _ask_token(self, digest: _Digest, token: str) -> Granted | Refused | Unavailable:
        async def ask() -> Granted | Refused | Unavailable:
            asked_at = self._clock()
            named = parse_issuer(token)
            if named not in self._issuers and not self._unknown.take(asked_at):
                return Unavailable(reason="too many tokens of unknown issuers", retry_after=1)
            answer = await review_token(self._client, token, self._audience)
            if isinstance(answer, Granted) and len(self._issuers) < _ISSUERS:
                self._issuers.add(named)
            if (
                isinstance(answer, Granted)
                and answer.token_expires_at is not None
                and answer.token_expires_at <= self._now()
            ):
                # The API server goes on for a minute (the leeway of its JWT library).
                answer = Refused(check="token", reason="the token has expired")
            match answer:
                case Granted(token_expires_at=expires):
                    life = math.inf if expires is None else expires - self._now()
                    until = min(asked_at + self._recheck, self._clock() + life)
                    known = _Known(replace(answer, holds_until=until), asked_at)
                    self._tokens.put(digest, known, until=until)
                case Refused():
                    self._tokens.drop(digest)
                    self.revocation_count += 1
                    self._refused_tokens.put(digest, answer, until=asked_at + self._refused_for)
            self._on_review("token", _result(answer))
            return answer

        return await self._flights.once(digest, ask)

    async def _ask_owner(self, identity: Identity, expires: float) -> Literal[True] | Refused | Unavailable:
        if service_account(identity) is None and expires > self._now():
            return True

        async def ask() -> Literal[True] | Refused | Unavailable:
            asked_at = self._clock()
            answer = await review_owner(self._client, identity)
            if answer is True:
                self._owners.put(identity, answer, until=asked_at + self._recheck / 3)
            self._on_review("owner", _result(answer))
            return answer

        return await self._flights.once(identity, ask)

    async def _ask_use(
        self, digest: _Digest, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        async def ask() -> Literal[True] | Refused | Unavailable:
            asked_at = self._clock()
            answer = await review_access(self._client, identity, key, self._rule)
            if answer is True:
                self._uses.put((digest, key), _Known(answer, asked_at), until=asked_at + self._recheck)
            elif isinstance(answer, Refused):
                self._uses.drop((digest, key))
                self.revocation_count += 1
                self._refused_uses.put((digest, key), answer, until=asked_at + self._refused_for)
            self._on_review("use", _result(answer))
            return answer

        return await self._flights.once((digest, key), ask)


def _digest(token: str) -> _Digest:
    return hashlib.sha256(token.encode()).digest()


def _result(answer: object) -> str:
    match answer:
        case Refused():
            return "refused"
        case Unavailable():
            return "error"
        case _:
            return "ok"
