"""Callers whose tokens other issuers have signed, beside those that `inner` knows.

The issuer decides the way: a token whose `iss` is configured is verified here, every other goes to `inner` as if this
were not there. Whether the caller may use a Connector is asked of `rights`, and remembered for `recheck` seconds.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from connector_store.cache import ExpiringCache
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, Answer, Granted, Identity, Refused, Unavailable
from connector_store.domain.callers.authentication import Issuer
from connector_store.oidc.keys import IssuerKeys
from connector_store.oidc.verify import Claimed, read_claimed, verify
from connector_store.single_flight import SingleFlight

REFUSED_FOR: Final = 3.0
"""Seconds that a refusal is remembered: who was just given a right does not wait long for it."""
IN_FLIGHT: Final = 500
"""Checks under way; more are Unavailable at once."""
_SIZE: Final = 20_000
"""Answers, and digests of tokens that are not of these issuers, that are remembered."""
_REFUSED_SIZE: Final = 2_000

_Digest = bytes


class Rights(Protocol):
    """Says whether a verified caller may use a Connector, also one that is not there."""

    async def may_use(self, identity: Identity, key: ObjectKey) -> Literal[True] | Refused | Unavailable: ...


@dataclass(frozen=True, slots=True)
class _Trusted:
    issuer: Issuer
    keys: IssuerKeys


class IssuerAccess:
    """`domain.access.Access`. `make_keys` gives the keys of an issuer.

    `now` is in unix seconds; what is remembered is timed by `clock`, which nobody sets back.
    """

    def __init__(
        self,
        inner: Access,
        rights: Rights,
        make_keys: Callable[[Issuer], IssuerKeys],
        *,
        recheck: float,
        refused_for: float = REFUSED_FOR,
        in_flight: int = IN_FLIGHT,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._rights = rights
        self._make_keys = make_keys
        self._recheck = recheck
        self._refused_for = refused_for
        self._now = now
        self._clock = clock
        self._trusted: dict[str, _Trusted] = {}
        self._flights = SingleFlight(most=in_flight, what="checks")
        self._generation = 0
        """Of the configuration: what was asked under another one answers nobody."""
        self._forget()

    def configure(self, issuers: Sequence[Issuer]) -> None:
        """Trust exactly these from now on; the keys of those that stay as they are stay."""
        held = {each.issuer: each for each in self._trusted.values()}
        self._trusted = {each.url: held.get(each) or _Trusted(each, self._make_keys(each)) for each in issuers}
        self._generation += 1
        self._forget()

    @property
    def withdrawn(self) -> int:
        return self._generation + self._inner.withdrawn

    def cached(self, token: str, key: ObjectKey) -> Answer | None:
        if not self._trusted:
            return self._inner.cached(token, key)
        digest = _digest(token)
        who = self._known_token(digest)
        if isinstance(who, Granted):
            use = self._known_use(digest, key)
            return who if use is True else use
        if who is not None:
            return who
        return self._inner.cached(token, key) if self._claimed(digest, token) is None else None

    async def check(self, token: str, key: ObjectKey) -> Answer:
        digest = _digest(token)
        claimed = self._claimed(digest, token)
        if claimed is None:
            return await self._inner.check(token, key)
        who = await self._who(digest, token, claimed)
        if not isinstance(who, Granted):
            return who
        use = await self._use(digest, who.identity, key)
        return who if use is True else use

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> Answer:
        """For a live stream: the issuer must still be trusted, its key not withdrawn, and the right be there."""
        claimed = self._claimed(_digest(token), token)
        if claimed is None:
            return await self._inner.recheck(token, identity, key)
        trusted = self._trusted[claimed.issuer]
        who = await verify(token, claimed, trusted.issuer, trusted.keys, now=self._now(), live=True)
        if not isinstance(who, Granted):
            return who
        if who.identity != identity:
            return Refused(what="token", reason="the token stands for another caller now")
        use = await self._rights.may_use(identity, key)
        return who if use is True else use

    def _known_token(self, digest: _Digest) -> Granted | Refused | None:
        now = self._clock()
        return self._known.get(digest, now=now) or self._refused.get(digest, now=now)

    def _known_use(self, digest: _Digest, key: ObjectKey) -> Literal[True] | Refused | None:
        now = self._clock()
        return self._uses.get((digest, key), now=now) or self._refused_uses.get((digest, key), now=now)

    def _claimed(self, digest: _Digest, token: str) -> Claimed | None:
        """None if the token is of no issuer that is trusted here."""
        if not self._trusted or self._others.get(digest, now=0.0):
            return None
        claimed = read_claimed(token)
        if claimed is None or claimed.issuer not in self._trusted:
            self._others.put(digest, True, until=math.inf)
            return None
        return claimed

    async def _who(self, digest: _Digest, token: str, claimed: Claimed) -> Granted | Refused | Unavailable:
        known = self._known_token(digest)
        return (
            known
            if known is not None
            else await self._flights.once((self._generation, digest), lambda: self._verify(digest, token, claimed))
        )

    async def _use(self, digest: _Digest, identity: Identity, key: ObjectKey) -> Literal[True] | Refused | Unavailable:
        known = self._known_use(digest, key)
        if known is not None:
            return known
        return await self._flights.once((self._generation, digest, key), lambda: self._ask(digest, identity, key))

    async def _verify(self, digest: _Digest, token: str, claimed: Claimed) -> Granted | Refused | Unavailable:
        trusted = self._trusted.get(claimed.issuer)
        if trusted is None:
            return Refused(what="token", reason="its issuer is not trusted any more")
        asked_at, now = self._clock(), self._now()
        answer = await verify(token, claimed, trusted.issuer, trusted.keys, now=now)
        if self._trusted.get(claimed.issuer) is not trusted:
            return Unavailable(reason="the issuers have changed meanwhile")
        match answer:
            case Granted(token_expires=expires):
                self._known.put(digest, answer, until=asked_at + min(self._recheck, (expires or now) - now))
            case Refused():
                self._refused.put(digest, answer, until=asked_at + self._refused_for)
        return answer

    async def _ask(self, digest: _Digest, identity: Identity, key: ObjectKey) -> Literal[True] | Refused | Unavailable:
        asked_at, generation = self._clock(), self._generation
        answer = await self._rights.may_use(identity, key)
        if generation != self._generation:
            return Unavailable(reason="the issuers have changed meanwhile")
        if answer is True:
            self._uses.put((digest, key), True, until=asked_at + self._recheck)
        elif isinstance(answer, Refused):
            self._refused_uses.put((digest, key), answer, until=asked_at + self._refused_for)
        return answer

    def _forget(self) -> None:
        self._known = ExpiringCache[_Digest, Granted](_SIZE)
        self._refused = ExpiringCache[_Digest, Refused](_REFUSED_SIZE)
        self._uses = ExpiringCache[tuple[_Digest, ObjectKey], Literal[True]](_SIZE)
        self._refused_uses = ExpiringCache[tuple[_Digest, ObjectKey], Refused](_REFUSED_SIZE)
        self._others = ExpiringCache[_Digest, Literal[True]](_SIZE)


def _digest(token: str) -> _Digest:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
