"""Access of callers by the API server: TokenReview, then SubjectAccessReview, with caches.

The cache stores only a token's digest. A granted answer is valid for `recheck` seconds, and never after the token's
expiry. A refused answer is valid for a few seconds. An unavailable answer is not cached. Concurrent reviews of the
same thing share one request. Reviews above the limit wait for a few seconds, and then get Unavailable.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from typing import Final, Literal

from connector_store.answer_cache import REFUSAL_TTL, AnswerCache, Grant, combine, token_expiry
from connector_store.boot_time import boot_time
from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.callers.token_claims import parse_issuer, rejection_reason
from connector_store.domain.config.settings import AccessRule
from connector_store.kube.client import KubeClient
from connector_store.kube.review import (
    NO_ACCESS_REQUESTS,
    AccessRequestSupport,
    review_access,
    review_owner,
    review_token,
    service_account,
)
from connector_store.single_flight import MAX_WAIT, SingleFlight
from connector_store.token_bucket import TokenBucket

RECHECK: Final = 30.0
"""Seconds; the option `connector_recheck`."""

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
        outage_grace: float = 0.0,
        max_in_flight: int = MAX_IN_FLIGHT,
        max_wait: float = MAX_WAIT,
        issuers: Iterable[str] = (),
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = boot_time,
        on_review: _ReviewObserver = lambda what, result: None,
        requests: AccessRequestSupport = NO_ACCESS_REQUESTS,
    ) -> None:
        """Create the access. `refusal_ttl=0` caches no refusal.

        `on_review` gets each review's kind, and `ok`, `refused` or `error`. `issuers` are the API server's own, such as
        the issuer of our token. Others are learned from the tokens that the API server accepts. `now` is in unix
        seconds of the API server's clock. `clock` times the caches.
        """
        self._client = client
        self._audience = audience
        self._rule = rule
        self._now = now
        self._clock = clock
        self._issuers = {each for each in issuers if each}
        self._unknown_issuer_limit = TokenBucket(rate=UNKNOWN_ISSUER_RATE, burst=UNKNOWN_ISSUER_BURST, now=clock)
        self._on_review = on_review
        self._requests = requests
        self._flights = SingleFlight(max_in_flight=max_in_flight, description="reviews", max_wait=max_wait)
        self._tokens = AnswerCache[_Digest, Granted](
            self._flights,
            ttl=recheck,
            refusal_ttl=refusal_ttl,
            outage_grace=outage_grace,
            expires_at=lambda granted: token_expiry(granted, now=now(), clock=clock()),
            clock=clock,
        )
        self._uses = AnswerCache[tuple[Identity, ObjectKey], Literal[True]](
            self._flights, ttl=recheck, refusal_ttl=refusal_ttl, outage_grace=outage_grace, clock=clock
        )

    @property
    def revocation_count(self) -> int:
        return self._tokens.refusal_count + self._uses.refusal_count

    @property
    def outage_count(self) -> int:
        """Number of times that an earlier review was used, because the API server could not be asked."""
        return self._tokens.outage_count + self._uses.outage_count

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        """Return the cached answer, or None if a review is needed. Never waits."""
        digest = _digest(token)
        caller = self._tokens.get(digest) or self._refuse_without_review(token)
        if not isinstance(caller, Grant):
            return caller
        use = self._uses.get((caller.value.identity.without_token(), key))
        return combine(caller, use) if use is not None else None

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        """Authenticate the token, then authorize its use of `key`, even if there is no such Connector."""
        digest = _digest(token)
        caller = (
            self._tokens.get(digest)
            or self._refuse_without_review(token)
            or await self._tokens.ask(digest, lambda: self._review_token(token))
        )
        if not isinstance(caller, Grant):
            return caller
        identity = caller.value.identity.without_token()
        return combine(caller, await self._uses.ask((identity, key), lambda: self._review_use(identity, key)))

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        """Review the token again. If it has expired, check instead that its owner exists."""
        expires_at = read_token_times(token).expires_at
        if expires_at is not None and expires_at <= self._now() + _EXPIRY_SKEW:
            # The API server does not review an expired token.
            owner = await self._review_owner(identity, expires_at)
            return Granted(identity=identity, token_expires_at=expires_at) if owner is True else owner
        answer = await self._tokens.renew(_digest(token), lambda: self._review_token(token))
        return answer.value if isinstance(answer, Grant) else answer

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        """Review the right again, for all tokens of the caller."""
        subject = identity.without_token()
        answer = await self._uses.renew((subject, key), lambda: self._review_use(subject, key))
        return answer.value if isinstance(answer, Grant) else answer

    def _refuse_without_review(self, token: str) -> Refused | None:
        """Refuse a token that no API server would accept."""
        reason = rejection_reason(token, self._audience, now=self._now())
        return Refused(check="token", reason=reason) if reason is not None else None

    async def _review_token(self, token: str) -> Granted | Refused | Unavailable:
        token_issuer = parse_issuer(token)
        if token_issuer not in self._issuers and not self._unknown_issuer_limit.take():
            return Unavailable(reason="too many tokens of unknown issuers", kind="too_many_unknown_issuers")
        answer = await review_token(self._client, token, self._audience)
        if isinstance(answer, Granted):
            if len(self._issuers) < _MAX_ISSUERS:
                self._issuers.add(token_issuer)
            if answer.token_expires_at is not None and answer.token_expires_at <= self._now():
                # The API server accepts the token for another minute (the leeway of its JWT library).
                answer = Refused(check="token", reason="the token has expired")
        self._on_review("token", _result_label(answer))
        return answer

    async def _review_owner(self, identity: Identity, expires_at: float) -> Literal[True] | Refused | Unavailable:
        if service_account(identity) is None and expires_at > self._now():
            return True

        answer = await self._flights.do(identity, lambda: review_owner(self._client, identity))
        self._on_review("owner", _result_label(answer))
        return answer

    async def _review_use(self, identity: Identity, key: ObjectKey) -> Literal[True] | Refused | Unavailable:
        answer = await review_access(self._client, identity, key, self._rule, self._requests)
        self._on_review("use", _result_label(answer))
        return answer


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
