"""Short-lived tokens of targets, in this process's memory: minted on demand, renewed before they end.

A token is renewed when it is used in the last fifth of its life, with jitter, and one request at a time for each
Connector. While that fails the old one serves until its end, and the target is asked again with growing pauses. What
changes (Secret, address, trust, order) drops the token at once, and so does a target that refuses it.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from connector_store.cache import Lru
from connector_store.domain.base.document import load_json
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.credential.minting import (
    RENEWAL_FRACTION,
    IssuingCredential,
    describe_failure,
    parse_token_response,
)
from connector_store.domain.objects.models import Address
from connector_store.target_client import Answer, TargetClient, TargetError

logger = logging.getLogger(__name__)

MAX_TOKENS: Final = 10_000
"""Connectors whose tokens are held; some 4 kB each. The one not used for the longest time goes first."""
MINTING: Final = 32
"""Token requests under way; more wait their turn."""
ANSWER: Final = 65536
"""Bytes of a TokenRequest's answer."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries of what fails; doubled each time, spread over half to all of that."""

REFUSED_AGAIN: Final = 10.0
"""Seconds that a token has to be old before its refusal by the target brings about another."""

_JITTER: Final = 0.1
"""Of a token's life: replicas and Connectors do not renew at one moment."""


class Source(NamedTuple):
    """Whose token: two that are equal have the same. `secret` is the name of the Secret, for messages."""

    key: ObjectKey
    address: Address
    ca: bytes | None
    right: IssuingCredential
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no token. `refused`: the target has said so; else it may be there later."""

    message: str
    refused: bool = False
    retry_after: int | None = None


@dataclass(slots=True, eq=False)
class _Held:
    """Times are of the monotonic clock."""

    source: Source
    token: BearerToken | None = field(default=None, repr=False)
    since: float = 0.0
    ends: float = 0.0
    renew: float = 0.0
    failure: Failure | None = None
    pause: float = 0.0
    again: float = 0.0
    flight: asyncio.Task[None] | None = None


class Minter:
    """`seconds` are for one request and its answer; `on_mint` is told of each `ok`, `refused` or `error`."""

    def __init__(
        self,
        client: TargetClient,
        *,
        seconds: float,
        limit: int = MAX_TOKENS,
        first_pause: float = FIRST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        on_mint: Callable[[str], None] = lambda result: None,
    ) -> None:
        self._client = client
        self._seconds = seconds
        self._first_pause = first_pause
        self._clock = clock
        self._now = now
        self._on_mint = on_mint
        self._held = Lru[ObjectKey, _Held](limit)
        self._slots = asyncio.Semaphore(MINTING)

    def __len__(self) -> int:
        return len(self._held)

    def current(self, source: Source) -> BearerToken | None:
        """The token that is good now, without waiting; one that is due is renewed beside."""
        held = self._of(source)
        return None if held is None else self._good(held)

    async def lend(self, source: Source) -> BearerToken | Failure:
        """The token, minted first if there is none; whoever asks meanwhile waits for the same one."""
        held = self._of(source)
        if held is None:
            held = _Held(source)
            self._held.put(source.key, held)
        token = self._good(held)
        if token is not None:
            return token
        if held.failure is not None and held.flight is None and self._clock() < held.again:
            return held.failure
        # Whoever goes away takes the token from nobody else.
        await asyncio.shield(self._start(held))
        return self._good(held) or held.failure or Failure(message="the token that was granted has ended already")

    def failure(self, source: Source) -> Failure | None:
        """Why there is no token, while the target is not to be asked again."""
        held = self._of(source)
        if held is None or held.flight is not None or self._clock() >= held.again:
            return None
        return held.failure

    def refused(self, key: ObjectKey, token: Credential) -> None:
        """The target took a token no more before its end: its account was made anew, or the target's own keys."""
        held = self._held.get(key)
        if held is not None and held.token == token and self._clock() - held.since >= REFUSED_AGAIN:
            held.token = None

    def keep(self, source: Source) -> None:
        """Drop the token of that Connector unless it is this source's."""
        self._of(source)

    def forget(self, key: ObjectKey) -> None:
        """Its Connector, or something that it names, has changed or is gone."""
        self._held.drop(key)

    def _of(self, source: Source) -> _Held | None:
        held = self._held.get(source.key)
        if held is None:
            return None
        if held.source is not source and held.source != source:
            self._held.drop(source.key)
            return None
        return held

    def _good(self, held: _Held) -> BearerToken | None:
        now = self._clock()
        if held.token is None or now >= held.ends:
            held.token = None
            return None
        if now >= held.renew and now >= held.again:
            self._start(held)
        return held.token

    def _start(self, held: _Held) -> asyncio.Task[None]:
        if held.flight is None:
            held.flight = asyncio.create_task(self._mint(held))
        return held.flight

    async def _mint(self, held: _Held) -> None:
        try:
            async with self._slots:
                started = self._clock()
                outcome = await self._ask(held.source)
        except Exception as error:
            # Neither its text nor its locals may be shown: the answer holds a token.
            logger.error("token request for Connector %s failed: %s", held.source.key, type(error).__name__)
            outcome = Failure(message="the request for a token failed")
        finally:
            held.flight = None
        if isinstance(outcome, Failure):
            self._failed(held, outcome)
            return
        token, life = outcome
        held.token, held.since, held.ends = token, started, started + life
        held.renew = started + life * (RENEWAL_FRACTION - random.uniform(0, _JITTER))  # noqa: S311 - spreads, protects nothing
        held.failure, held.pause, held.again = None, 0.0, 0.0
        self._on_mint("ok")

    def _failed(self, held: _Held, failure: Failure) -> None:
        if held.failure is None or held.failure.message != failure.message:
            logger.warning("Connector %s: no new token of the target: %s", held.source.key, failure.message)
        held.failure = failure
        held.pause = min(held.pause * 2, LONGEST_PAUSE) if held.pause else self._first_pause
        spread = held.pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads, protects nothing
        held.again = self._clock() + max(spread, min(failure.retry_after or 0, LONGEST_PAUSE))
        self._on_mint("refused" if failure.refused else "error")

    async def _ask(self, source: Source) -> tuple[BearerToken, float] | Failure:
        by, order = source.right.credential, source.right.request
        identity = by if isinstance(by, ClientCertificate) else None
        headers = [("Content-Type", "application/json")]
        if by.authorization is not None:
            headers.append(("Authorization", by.authorization.decode("ascii")))
        body = json.dumps(order.body).encode()
        try:
            async with self._client.connect(source.address, source.ca, identity, seconds=self._seconds) as session:
                answer = await session.request("POST", order.path, headers, body=body, most=ANSWER)
        except TargetError as error:
            return Failure(message=str(error))
        if answer.status != 201:
            refused = answer.status in (400, 401, 403, 404, 422)
            message = describe_failure(answer.status, order, source.secret)
            return Failure(message=message, refused=refused, retry_after=_retry_after(answer))
        try:
            grant = parse_token_response(_document(answer), source.right, now=self._now())
        except ParseError as error:
            return Failure(message=f"the target {error.reason}")
        return grant.token, grant.lifetime


def _document(answer: Answer) -> object:
    if not answer.whole:
        raise ParseError("", f"answered the request for a token with more than {ANSWER} bytes")
    try:
        return load_json(answer.body)
    except ValueError:
        raise ParseError("", "answered the request for a token with something else than JSON") from None


def _retry_after(answer: Answer) -> int | None:
    """Seconds (RFC 9110 section 10.2.3); a date is passed over."""
    value = answer.header(b"retry-after") or b""
    return int(value) if value.isdigit() and len(value) < 6 else None
