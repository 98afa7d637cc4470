"""Access of callers by the API server: TokenReview, then SubjectAccessReview, with caches.

The cache stores only a token's digest. A granted answer is valid for `recheck` seconds, and never after the token's
expiry. A refused answer is valid for a few seconds. An unavailable answer is not cached. Concurrent reviews of the
same thing share one request. Reviews above the limit wait for a few seconds, and then get Unavailable.
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
from connector_store.kube.client import KubeClient
from connector_store.kube.review import review_access, review_owner, review_token, service_account
from connector_store.single_flight import SingleFlight
from connector_store.token_bucket import TokenBucket

RECHECK: Final = 30.0
"""Seconds; the option `connector_recheck`."""

REFUSAL_TTL: Final = 3.0
"""Seconds that a refusal is cached. It is short, so that a new right takes effect soon."""

_MAX_GRANTED: Final = 20_000
_MAX_REFUSED: Final = 2_000
MAX_IN_FLIGHT: Final = 500
"""Maximum number of concurrent reviews. Further ones wait (see `SingleFlight`)."""

UNKNOWN_ISSUER_RATE: Final = 1.0
UNKNOWN_ISSUER_BURST: Final = 100
"""Reviews of tokens whose issuer is not known yet: enough to learn a new issuer, and no load for the API server."""

_MAX_ISSUERS: Final = 64
"""Maximum number of known issuers. An API server has one, or two while it changes."""

_EXPIRY_SKEW: Final = 10.0
"""Seconds before a token's expiry in which its refusal may only mean that it expired."""

_Digest = bytes
_ReviewObserver = Callable[[Literal["token", "use", "owner"], str], None]


@dataclass(frozen=True, slots=True)
class _Reviewed[V]:
    value: V
    reviewed_at: float


class KubeAccess:
    """Implementation of `Access` for a cluster."""

    def __init__(
        self,
        client: KubeClient,
        *,
        audience: str,
        rule: AccessRule,
        recheck: float = RECHECK,
        refusal_ttl: float = REFUSAL_TTL,
        max_in_flight: int = MAX_IN_FLIGHT,
        issuers: Iterable[str] = (),
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        on_review: _ReviewObserver = lambda what, result: None,
    ) -> None:
        """Create the access. `refusal_ttl=0` caches no refusal.

        `on_review` gets each review's kind, and `ok`, `refused` or `error`. `issuers` are the API server's own, such as
        the issuer of our token. Others are learned from the tokens that the API server accepts. `now` is in unix
        seconds and is compared with the times in tokens. `clock` is monotonic and times the caches.
        """
        self._client = client
        self._audience = audience
        self._rule = rule
        self._recheck = recheck
        self._refusal_ttl = refusal_ttl
        self._now = now
        self._clock = clock
        self._issuers = {each for each in issuers if each}
        self._unknown_issuer_limit = TokenBucket(rate=UNKNOWN_ISSUER_RATE, burst=UNKNOWN_ISSUER_BURST, now=clock)
        self._on_review = on_review
        self.revocation_count = 0
        # Separate caches, so that many bad tokens do not evict good ones.
        self._tokens = ExpiringCache[_Digest, _Reviewed[Granted]](_MAX_GRANTED)
        self._uses = ExpiringCache[tuple[_Digest, ObjectKey], _Reviewed[Literal[True]]](_MAX_GRANTED)
        self._refused_tokens = ExpiringCache[_Digest, Refused](_MAX_REFUSED)
        self._refused_uses = ExpiringCache[tuple[_Digest, ObjectKey], Refused](_MAX_REFUSED)
        self._owners = ExpiringCache[Identity, Literal[True]](_MAX_GRANTED)
        self._reviews = SingleFlight(max_in_flight=max_in_flight, description="reviews")

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        """Return the cached answer, or None if a review is needed. Never waits."""
        digest = _digest(token)
        now = self._clock()
        authentication = self._cached_authentication(digest, now) or self._refuse_without_review(token)
        if not isinstance(authentication, Granted):
            return authentication
        use_entry = self._uses.get((digest, key), now=now)
        if use_entry is None:
            return self._refused_uses.get((digest, key), now=now)
        return replace(
            authentication, valid_until=min(authentication.valid_until, use_entry.reviewed_at + self._recheck)
        )

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        """Authenticate the token, then authorize its use of `key`, even if there is no such Connector."""
        digest = _digest(token)
        authentication = (
            self._cached_authentication(digest, self._clock())
            or self._refuse_without_review(token)
            or await self._review_token(digest, token)
        )
        if not isinstance(authentication, Granted):
            return authentication
        use = self._cached_authorization(digest, key, self._clock()) or await self._review_use(
            digest, authentication.identity, key
        )
        return authentication if use is True else use

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        """Return the answer for a live connection.

        An expired token is not a reason to refuse it while the token's owner exists. The connections of one caller
        share reviews that are at most a third of `recheck` old. The proxy calls this every half of `recheck`, so it
        notices a revoked right within `recheck`.
        """
        digest = _digest(token)
        fresh_since = self._clock() - self._recheck / 3
        expires_at = read_token_times(token).expires_at
        authentication: AccessResult = Granted(identity=identity, token_expires_at=expires_at)
        if expires_at is not None and expires_at <= self._now() + _EXPIRY_SKEW:
            # The API server does not review an expired token. Check that its owner exists instead.
            owner = self._owners.get(identity, now=self._clock()) or await self._review_owner(identity, expires_at)
            if owner is not True:
                return owner
        else:
            token_entry = self._tokens.get(digest, now=self._clock())
            fresh = token_entry.value if token_entry is not None and token_entry.reviewed_at >= fresh_since else None
            authentication = fresh or await self._review_token(digest, token)
            if not isinstance(authentication, Granted):
                return authentication
        use_entry = self._uses.get((digest, key), now=self._clock())
        if use_entry is not None and use_entry.reviewed_at >= fresh_since:
            return authentication
        use = await self._review_use(digest, identity, key)
        return authentication if use is True else use

    def _refuse_without_review(self, token: str) -> Refused | None:
        """Refuse a token that no API server would accept."""
        reason = rejection_reason(token, self._audience, now=self._now())
        return Refused(check="token", reason=reason) if reason is not None else None

    def _cached_authentication(self, digest: _Digest, now: float) -> Granted | Refused | None:
        entry = self._tokens.get(digest, now=now)
        return entry.value if entry is not None else self._refused_tokens.get(digest, now=now)

    def _cached_authorization(self, digest: _Digest, key: ObjectKey, now: float) -> Literal[True] | Refused | None:
        entry = self._uses.get((digest, key), now=now)
        return entry.value if entry is not None else self._refused_uses.get((digest, key), now=now)

    async def _review_token(self, digest: _Digest, token: str) -> Granted | Refused | Unavailable:
        async def review() -> Granted | Refused | Unavailable:
            reviewed_at = self._clock()
            token_issuer = parse_issuer(token)
            if token_issuer not in self._issuers and not self._unknown_issuer_limit.take():
                return Unavailable(reason="too many tokens of unknown issuers", kind="too_many_unknown_issuers")
            answer = await review_token(self._client, token, self._audience)
            if isinstance(answer, Granted) and len(self._issuers) < _MAX_ISSUERS:
                self._issuers.add(token_issuer)
            if (
                isinstance(answer, Granted)
                and answer.token_expires_at is not None
                and answer.token_expires_at <= self._now()
            ):
                # The API server accepts the token for another minute (the leeway of its JWT library).
                answer = Refused(check="token", reason="the token has expired")
            match answer:
                case Granted(token_expires_at=expires):
                    lifetime = math.inf if expires is None else expires - self._now()
                    valid_until = min(reviewed_at + self._recheck, self._clock() + lifetime)
                    entry = _Reviewed(replace(answer, valid_until=valid_until), reviewed_at)
                    self._tokens.put(digest, entry, expires_at=valid_until)
                case Refused():
                    self._tokens.drop(digest)
                    self.revocation_count += 1
                    self._refused_tokens.put(digest, answer, expires_at=reviewed_at + self._refusal_ttl)
            self._on_review("token", _result_label(answer))
            return answer

        return await self._reviews.do(digest, review)

    async def _review_owner(self, identity: Identity, expires_at: float) -> Literal[True] | Refused | Unavailable:
        if service_account(identity) is None and expires_at > self._now():
            return True

        async def review() -> Literal[True] | Refused | Unavailable:
            reviewed_at = self._clock()
            answer = await review_owner(self._client, identity)
            if answer is True:
                self._owners.put(identity, answer, expires_at=reviewed_at + self._recheck / 3)
            self._on_review("owner", _result_label(answer))
            return answer

        return await self._reviews.do(identity, review)

    async def _review_use(
        self, digest: _Digest, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        async def review() -> Literal[True] | Refused | Unavailable:
            reviewed_at = self._clock()
            answer = await review_access(self._client, identity, key, self._rule)
            if answer is True:
                self._uses.put((digest, key), _Reviewed(answer, reviewed_at), expires_at=reviewed_at + self._recheck)
            elif isinstance(answer, Refused):
                self._uses.drop((digest, key))
                self.revocation_count += 1
                self._refused_uses.put((digest, key), answer, expires_at=reviewed_at + self._refusal_ttl)
            self._on_review("use", _result_label(answer))
            return answer

        return await self._reviews.do((digest, key), review)


def _digest(token: str) -> _Digest:
    return hashlib.sha256(token.encode()).digest()


def _result_label(answer: object) -> str:
    match answer:
        case Refused():
            return "refused"
        case Unavailable():
            return "error"
        case _:
            return "ok"
