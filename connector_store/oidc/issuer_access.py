"""Access checks of callers whose tokens come from configured OIDC issuers.

A token whose `iss` is configured is verified here. All other tokens go to the `fallback`. The `authorizer` checks
whether the caller may use a Connector. Its result is cached for `recheck` seconds.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from connector_store.answer_cache import MAX_GRANTS, AnswerCache, Grant, combine, token_expiry
from connector_store.boot_time import boot_time
from connector_store.cache import Lru
from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.callers.authentication_config import Issuer
from connector_store.oidc.issuer_keys import IssuerKeys
from connector_store.oidc.verify import UnverifiedToken, read_unverified, verify_token
from connector_store.single_flight import SingleFlight

MAX_IN_FLIGHT: Final = 500
"""Maximum number of concurrent checks of rights, and of tokens of one issuer. Further checks wait."""
_ISSUERS_CHANGED: Final = Unavailable(reason="the issuers have changed meanwhile", kind="issuers_changed")

_Digest = bytes


class UseAuthorizer(Protocol):
    """Authorizes verified callers to use a Connector. The Connector need not exist."""

    async def authorize_use(self, identity: Identity, key: ObjectKey) -> Literal[True] | Refused | Unavailable: ...


@dataclass(frozen=True, slots=True)
class _TrustedIssuer:
    issuer: Issuer
    keys: IssuerKeys
    verifications: SingleFlight
    """Bound on the tokens that wait for this issuer's keys, so that one that hangs does not delay those of others."""


class IssuerAccess:
    """`Access` for tokens of configured issuers. `create_keys` creates the key source of an issuer.

    `now` is in Unix seconds. `clock` times the cache entries.
    """

    def __init__(
        self,
        fallback: Access,
        authorizer: UseAuthorizer,
        create_keys: Callable[[Issuer], IssuerKeys],
        *,
        recheck: float,
        outage_grace: float = 0.0,
        max_in_flight: int = MAX_IN_FLIGHT,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._fallback = fallback
        self._authorizer = authorizer
        self._create_keys = create_keys
        self._recheck = recheck
        self._outage_grace = outage_grace
        self._now = now
        self._clock = clock
        self._issuers: dict[str, _TrustedIssuer] = {}
        self._max_in_flight = max_in_flight
        self._flights = self._create_flights()
        self._generation = 0
        """Number of configuration changes. A check that began under an earlier configuration is discarded."""
        self._revocation_count = 0
        """Changes of the configuration, and refusals by the caches of earlier configurations."""
        self._clear_caches()

    def configure(self, issuers: Sequence[Issuer]) -> None:
        """Replace the trusted issuers. Issuers that do not change keep their keys."""
        current = {trusted.issuer: trusted for trusted in self._issuers.values()}
        self._issuers = {issuer.url: current.get(issuer) or self._create_trusted(issuer) for issuer in issuers}
        self._generation += 1
        self._revocation_count += 1 + self._tokens.refusal_count + self._uses.refusal_count
        self._clear_caches()

    def _create_trusted(self, issuer: Issuer) -> _TrustedIssuer:
        return _TrustedIssuer(issuer, self._create_keys(issuer), self._create_flights())

    def _create_flights(self) -> SingleFlight:
        return SingleFlight(max_in_flight=self._max_in_flight, description="checks")

    @property
    def revocation_count(self) -> int:
        own_count = self._revocation_count + self._tokens.refusal_count + self._uses.refusal_count
        return own_count + self._fallback.revocation_count

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        if not self._issuers:
            return self._fallback.check_cached(token, key)
        digest = _digest(token)
        caller = self._tokens.get(digest)
        if isinstance(caller, Grant):
            use = self._uses.get((caller.value.identity.without_token(), key))
            return combine(caller, use) if use is not None else None
        if caller is not None:
            return caller
        return self._fallback.check_cached(token, key) if self._read_trusted(digest, token) is None else None

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        digest = _digest(token)
        unverified = self._read_trusted(digest, token)
        if unverified is None:
            return await self._fallback.check(token, key, source_ip)
        generation, uses = self._generation, self._uses
        caller = await self._tokens.ask(
            digest,
            lambda: self._verify_token(token, unverified, source_ip),
            flights=self._issuers[unverified.issuer].verifications,
        )
        if not isinstance(caller, Grant):
            return caller if generation == self._generation else _ISSUERS_CHANGED
        identity = caller.value.identity.without_token()
        use = await uses.ask((identity, key), lambda: self._authorizer.authorize_use(identity, key))
        return combine(caller, use) if generation == self._generation else _ISSUERS_CHANGED

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        """Check that the token has not expired, and that its issuer and key are trusted.

        The issuer cannot be asked whether the caller still exists, so its token's expiry closes the connection.
        """
        unverified = self._read_trusted(_digest(token), token)
        if unverified is None:
            return await self._fallback.recheck_token(token, identity)
        expires_at = read_token_times(token).expires_at
        if expires_at is not None and expires_at <= self._now():
            # An issuer whose keys cannot be fetched does not prolong the connection.
            return Refused(check="token", reason="the token has expired")
        caller = await self._verify_token(token, unverified)
        if isinstance(caller, Granted) and caller.identity != identity:
            return Refused(check="token", reason="the token stands for another caller now")
        return caller

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        if self._read_trusted(_digest(token), token) is None:
            return await self._fallback.recheck_use(token, identity, key)
        subject = identity.without_token()
        answer = await self._uses.renew((subject, key), lambda: self._authorizer.authorize_use(subject, key))
        return answer.value if isinstance(answer, Grant) else answer

    def _read_trusted(self, digest: _Digest, token: str) -> UnverifiedToken | None:
        """Return the unverified token if its issuer is trusted, else None."""
        if not self._issuers or self._other_tokens.get(digest):
            return None
        unverified = read_unverified(token)
        if unverified is None or unverified.issuer not in self._issuers:
            self._other_tokens.put(digest, True)
            return None
        return unverified

    async def _verify_token(
        self, token: str, unverified: UnverifiedToken, source_ip: str = ""
    ) -> Granted | Refused | Unavailable:
        trusted = self._issuers.get(unverified.issuer)
        if trusted is None:
            return Refused(check="token", reason="its issuer is not trusted any more")
        return await verify_token(token, unverified, trusted.issuer, trusted.keys, source_ip=source_ip, now=self._now())

    def _clear_caches(self) -> None:
        self._tokens = AnswerCache[_Digest, Granted](
            self._flights,
            ttl=self._recheck,
            expires_at=lambda granted: token_expiry(granted, now=self._now(), clock=self._clock()),
            clock=self._clock,
        )
        self._uses = AnswerCache[tuple[Identity, ObjectKey], Literal[True]](
            self._flights,
            ttl=self._recheck,
            outage_grace=self._outage_grace,
            clock=self._clock,
        )
        self._other_tokens = Lru[_Digest, Literal[True]](MAX_GRANTS)


def _digest(token: str) -> _Digest:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
