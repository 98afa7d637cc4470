"""Access checks of callers whose tokens come from configured OIDC issuers.

A token whose `iss` is configured is verified here. All other tokens go to the `fallback`. The `authorizer` checks
whether the caller may use a Connector. Its result is cached for `recheck` seconds.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from connector_store.cache import ExpiringCache
from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.callers.authentication_config import Issuer
from connector_store.oidc.issuer_keys import IssuerKeys
from connector_store.oidc.verify import UnverifiedToken, read_unverified, verify_token
from connector_store.single_flight import SingleFlight

REFUSAL_TTL: Final = 3.0
"""Seconds that a refusal is cached. It is short, so that a new right takes effect soon."""
MAX_IN_FLIGHT: Final = 500
"""Maximum number of concurrent checks. Further checks are `Unavailable` immediately."""
_CACHE_SIZE: Final = 20_000
"""Maximum number of cached results, and of digests of tokens from other issuers."""
_REFUSAL_CACHE_SIZE: Final = 2_000

_Digest = bytes


class UseAuthorizer(Protocol):
    """Authorizes verified callers to use a Connector. The Connector need not exist."""

    async def authorize_use(self, identity: Identity, key: ObjectKey) -> Literal[True] | Refused | Unavailable: ...


@dataclass(frozen=True, slots=True)
class _TrustedIssuer:
    issuer: Issuer
    keys: IssuerKeys


class IssuerAccess:
    """`Access` for tokens of configured issuers. `create_keys` creates the key source of an issuer.

    `now` is in Unix seconds. `clock` is monotonic and times the cache entries.
    """

    def __init__(
        self,
        fallback: Access,
        authorizer: UseAuthorizer,
        create_keys: Callable[[Issuer], IssuerKeys],
        *,
        recheck: float,
        refusal_ttl: float = REFUSAL_TTL,
        max_in_flight: int = MAX_IN_FLIGHT,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fallback = fallback
        self._authorizer = authorizer
        self._create_keys = create_keys
        self._recheck = recheck
        self._refusal_ttl = refusal_ttl
        self._now = now
        self._clock = clock
        self._issuers: dict[str, _TrustedIssuer] = {}
        self._flights = SingleFlight(max_in_flight=max_in_flight, description="checks")
        self._generation = 0
        """Number of configuration changes. A check that began under an earlier configuration is discarded."""
        self._clear_caches()

    def configure(self, issuers: Sequence[Issuer]) -> None:
        """Replace the trusted issuers. Issuers that do not change keep their keys."""
        current = {trusted.issuer: trusted for trusted in self._issuers.values()}
        self._issuers = {
            issuer.url: current.get(issuer) or _TrustedIssuer(issuer, self._create_keys(issuer)) for issuer in issuers
        }
        self._generation += 1
        self._clear_caches()

    @property
    def revocation_count(self) -> int:
        return self._generation + self._fallback.revocation_count

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        if not self._issuers:
            return self._fallback.check_cached(token, key)
        digest = _digest(token)
        caller = self._cached_token(digest)
        if isinstance(caller, Granted):
            use = self._cached_use(digest, key)
            return caller if use is True else use
        if caller is not None:
            return caller
        return self._fallback.check_cached(token, key) if self._read_trusted(digest, token) is None else None

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        digest = _digest(token)
        unverified = self._read_trusted(digest, token)
        if unverified is None:
            return await self._fallback.check(token, key)
        caller = await self._authenticate(digest, token, unverified)
        if not isinstance(caller, Granted):
            return caller
        use = await self._authorize(digest, caller.identity, key)
        return caller if use is True else use

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        """Check a live connection again: the token has not expired, its issuer and key are trusted, the right exists.

        The issuer cannot be asked whether the caller still exists, so its token's expiry closes the connection.
        """
        unverified = self._read_trusted(_digest(token), token)
        if unverified is None:
            return await self._fallback.recheck(token, identity, key)
        expires_at = read_token_times(token).expires_at
        if expires_at is not None and expires_at <= self._now():
            # An issuer whose keys cannot be fetched does not prolong the connection.
            return Refused(check="token", reason="the token has expired")
        trusted = self._issuers[unverified.issuer]
        caller = await verify_token(token, unverified, trusted.issuer, trusted.keys, now=self._now())
        if not isinstance(caller, Granted):
            return caller
        if caller.identity != identity:
            return Refused(check="token", reason="the token stands for another caller now")
        use = await self._authorizer.authorize_use(identity, key)
        return caller if use is True else use

    def _cached_token(self, digest: _Digest) -> Granted | Refused | None:
        now = self._clock()
        return self._granted_tokens.get(digest, now=now) or self._refused_tokens.get(digest, now=now)

    def _cached_use(self, digest: _Digest, key: ObjectKey) -> Literal[True] | Refused | None:
        now = self._clock()
        return self._granted_uses.get((digest, key), now=now) or self._refused_uses.get((digest, key), now=now)

    def _read_trusted(self, digest: _Digest, token: str) -> UnverifiedToken | None:
        """Return the unverified token if its issuer is trusted, else None."""
        if not self._issuers or self._other_tokens.get(digest, now=0.0):
            return None
        unverified = read_unverified(token)
        if unverified is None or unverified.issuer not in self._issuers:
            self._other_tokens.put(digest, True, expires_at=math.inf)
            return None
        return unverified

    async def _authenticate(
        self, digest: _Digest, token: str, unverified: UnverifiedToken
    ) -> Granted | Refused | Unavailable:
        cached = self._cached_token(digest)
        if cached is not None:
            return cached
        return await self._flights.do((self._generation, digest), lambda: self._verify_token(digest, token, unverified))

    async def _authorize(
        self, digest: _Digest, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        cached = self._cached_use(digest, key)
        if cached is not None:
            return cached
        return await self._flights.do((self._generation, digest, key), lambda: self._review_use(digest, identity, key))

    async def _verify_token(
        self, digest: _Digest, token: str, unverified: UnverifiedToken
    ) -> Granted | Refused | Unavailable:
        trusted = self._issuers.get(unverified.issuer)
        if trusted is None:
            return Refused(check="token", reason="its issuer is not trusted any more")
        started_at, now = self._clock(), self._now()
        result = await verify_token(token, unverified, trusted.issuer, trusted.keys, now=now)
        if self._issuers.get(unverified.issuer) is not trusted:
            return Unavailable(reason="the issuers have changed meanwhile", kind="issuers_changed")
        match result:
            case Granted(token_expires_at=expires_at):
                self._granted_tokens.put(
                    digest, result, expires_at=started_at + min(self._recheck, (expires_at or now) - now)
                )
            case Refused():
                self._refused_tokens.put(digest, result, expires_at=started_at + self._refusal_ttl)
        return result

    async def _review_use(
        self, digest: _Digest, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        started_at, generation = self._clock(), self._generation
        result = await self._authorizer.authorize_use(identity, key)
        if generation != self._generation:
            return Unavailable(reason="the issuers have changed meanwhile", kind="issuers_changed")
        if result is True:
            self._granted_uses.put((digest, key), True, expires_at=started_at + self._recheck)
        elif isinstance(result, Refused):
            self._refused_uses.put((digest, key), result, expires_at=started_at + self._refusal_ttl)
        return result

    def _clear_caches(self) -> None:
        self._granted_tokens = ExpiringCache[_Digest, Granted](_CACHE_SIZE)
        self._refused_tokens = ExpiringCache[_Digest, Refused](_REFUSAL_CACHE_SIZE)
        self._granted_uses = ExpiringCache[tuple[_Digest, ObjectKey], Literal[True]](_CACHE_SIZE)
        self._refused_uses = ExpiringCache[tuple[_Digest, ObjectKey], Refused](_REFUSAL_CACHE_SIZE)
        self._other_tokens = ExpiringCache[_Digest, Literal[True]](_CACHE_SIZE)


def _digest(token: str) -> _Digest:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
