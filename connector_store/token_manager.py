"""Cache of short-lived tokens for targets. Tokens are requested on demand and renewed before they expire.

A token is renewed when it is used in the last fifth of its lifetime, with jitter. Each Connector has one request at a
time. If a renewal fails, the old token serves until it expires, and the request is retried with growing backoff. A
changed Secret, address, CA or token request discards the token at once. So does a target that refuses it.

A target that hangs delays only its own Connectors. At most MAX_DIALS_PER_ADDRESS of them dial it at the same time. If
one does not complete the TLS handshake in time, all others fail with it, and one of them tries again after
DIAL_RETRY_INTERVAL. A request without a response after SLOT_TIMEOUT gives its slot to the next one and continues.
"""

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from connector_store.cache import Lru
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.json_document import load_json
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.credential.token_request import (
    RENEWAL_FRACTION,
    IssuingCredential,
    describe_failure,
    parse_token_response,
)
from connector_store.domain.objects.models import Address
from connector_store.target_client import DialTimeoutError, TargetClient, TargetError, TargetResponse
from connector_store.timed_slots import TimedSlots

logger = logging.getLogger(__name__)

MAX_TOKENS: Final = 10_000
"""Maximum number of Connectors with a token, about 4 kB each. The least recently used token is evicted first."""
START_SLOTS: Final = 64
"""Maximum number of token requests that start at the same time. Further requests wait."""
SLOT_TIMEOUT: Final = 0.5
"""Maximum number of seconds that a request holds its slot. A request takes 10 s at most by default, so 1,280 are open
at most."""
MAX_DIALS_PER_ADDRESS: Final = 8
"""Maximum number of concurrent dials of one address. Further requests to it wait."""
DIAL_RETRY_INTERVAL: Final = 10.0
"""Seconds until an address that did not complete a TLS handshake in time is dialled again."""
MAX_RESPONSE_BYTES: Final = 65536
"""Maximum size of a TokenRequest's response, in bytes."""
INITIAL_BACKOFF: Final = 1.0
MAX_BACKOFF: Final = 60.0
"""Seconds between two attempts. They double with each failure, and a random half of them may be cut off."""

MIN_AGE_TO_INVALIDATE: Final = 10.0
"""Minimum age of a token, in seconds, so that its refusal by the target leads to a new request."""

_JITTER: Final = 0.1
"""Share of a token's lifetime. It keeps replicas and Connectors from renewing at the same moment."""


class TokenEndpoint(NamedTuple):
    """Target of token requests, and the credential for them. Equal endpoints share a token.

    `secret_name` is the Secret's name, for messages.
    """

    key: ObjectKey
    address: Address
    ca: bytes | None
    issuing_credential: IssuingCredential
    secret_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFailure:
    """Reason for a missing token. `refused` is True if the target refused the request, which a retry may not change."""

    message: str
    refused: bool = False
    retry_after: int | None = None


@dataclass(slots=True, eq=False)
class _TokenEntry:
    """State of one Connector's token. Times are monotonic seconds."""

    endpoint: TokenEndpoint
    token: BearerToken | None = field(default=None, repr=False)
    requested_at: float = 0.0
    expires_at: float = 0.0
    renew_at: float = 0.0
    failure: TokenFailure | None = None
    backoff: float = 0.0
    retry_at: float = 0.0
    request_task: asyncio.Task[None] | None = None


class _AddressDials:
    """State of the dials of one address. `failure` is the result of the last dial if it did not end in time."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(MAX_DIALS_PER_ADDRESS)
        self.failure: TokenFailure | None = None
        self.retry_at = 0.0


class TokenManager:
    """Tokens of all Connectors that issue tokens.

    One request, with its response, takes at most `timeout` seconds. After each request, or each failure in its place,
    `on_token_request` is called with the Connector and `ok`, `refused` or `error`.
    """

    def __init__(
        self,
        client: TargetClient,
        *,
        timeout: float,
        max_tokens: int = MAX_TOKENS,
        clock: Callable[[], float] = time.monotonic,
        on_token_request: Callable[[ObjectKey, str], None] = lambda key, result: None,
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._clock = clock
        self._on_token_request = on_token_request
        self._entries = Lru[ObjectKey, _TokenEntry](max_tokens)
        self._dials = Lru[Address, _AddressDials](max_tokens)
        self._start_slots = TimedSlots(START_SLOTS, timeout=SLOT_TIMEOUT)

    def __len__(self) -> int:
        return len(self._entries)

    def cached_token(self, endpoint: TokenEndpoint) -> BearerToken | None:
        """Return the valid token or None, without waiting. A token that is due is renewed in the background."""
        entry = self._find_entry(endpoint)
        return None if entry is None else self._valid_token(entry)

    async def get_token(self, endpoint: TokenEndpoint) -> BearerToken | TokenFailure:
        """Return the token, and request it first if there is none. Concurrent callers wait for the same request."""
        entry = self._find_entry(endpoint)
        if entry is None:
            entry = _TokenEntry(endpoint)
            self._entries.put(endpoint.key, entry)
        token = self._valid_token(entry)
        if token is not None:
            return token
        if entry.failure is not None and entry.request_task is None and self._clock() < entry.retry_at:
            return entry.failure
        # A caller that is cancelled must not cancel the request for the others.
        await asyncio.shield(self._start_request(entry))
        return self._valid_token(entry) or entry.failure or TokenFailure(message="the issued token has expired already")

    def current_failure(self, endpoint: TokenEndpoint) -> TokenFailure | None:
        """Return why there is no token, while it is too early to ask the target again."""
        entry = self._find_entry(endpoint)
        if entry is None or entry.request_task is not None or self._clock() >= entry.retry_at:
            return None
        return entry.failure

    def invalidate(self, key: ObjectKey, token: Credential) -> None:
        """Discard a token that the target refused before its expiry.

        This happens when the account was created again, or when the target's signing keys changed.
        """
        entry = self._entries.get(key)
        if entry is not None and entry.token == token and self._clock() - entry.requested_at >= MIN_AGE_TO_INVALIDATE:
            entry.token = None

    def discard_unless(self, endpoint: TokenEndpoint) -> None:
        """Discard the token of that Connector unless it belongs to this endpoint."""
        self._find_entry(endpoint)

    def forget(self, key: ObjectKey) -> None:
        """Discard the token of a Connector that was changed or deleted, or that names a changed object."""
        self._entries.drop(key)

    def _find_entry(self, endpoint: TokenEndpoint) -> _TokenEntry | None:
        entry = self._entries.get(endpoint.key)
        if entry is None:
            return None
        if entry.endpoint is not endpoint and entry.endpoint != endpoint:
            self._entries.drop(endpoint.key)
            return None
        return entry

    def _valid_token(self, entry: _TokenEntry) -> BearerToken | None:
        now = self._clock()
        if entry.token is None or now >= entry.expires_at:
            entry.token = None
            return None
        if now >= entry.renew_at and now >= entry.retry_at:
            self._start_request(entry)
        return entry.token

    def _start_request(self, entry: _TokenEntry) -> asyncio.Task[None]:
        if entry.request_task is None:
            entry.request_task = asyncio.create_task(self._renew(entry))
        return entry.request_task

    async def _renew(self, entry: _TokenEntry) -> None:
        try:
            outcome = await self._request_token(entry.endpoint)
        except Exception as error:
            # The log must not show the error's text or its locals, because the response contains a token.
            logger.error("token request for Connector %s failed: %s", entry.endpoint.key, type(error).__name__)
            outcome = TokenFailure(message="the request for a token failed")
        finally:
            entry.request_task = None
        if isinstance(outcome, TokenFailure):
            self._record_failure(entry, outcome)
            return
        token, requested_at, lifetime = outcome
        entry.token, entry.requested_at, entry.expires_at = token, requested_at, requested_at + lifetime
        entry.renew_at = requested_at + lifetime * (RENEWAL_FRACTION - random.uniform(0, _JITTER))  # noqa: S311 - jitter, not security
        entry.failure, entry.backoff, entry.retry_at = None, 0.0, 0.0
        self._on_token_request(entry.endpoint.key, "ok")

    def _record_failure(self, entry: _TokenEntry, failure: TokenFailure) -> None:
        if entry.failure is None or entry.failure.message != failure.message:
            logger.warning("Connector %s: no new token of the target: %s", entry.endpoint.key, failure.message)
        entry.failure = failure
        entry.backoff = min(entry.backoff * 2, MAX_BACKOFF) if entry.backoff else INITIAL_BACKOFF
        delay = entry.backoff * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not security
        entry.retry_at = self._clock() + max(delay, min(failure.retry_after or 0, MAX_BACKOFF))
        self._on_token_request(entry.endpoint.key, "refused" if failure.refused else "error")

    async def _request_token(self, endpoint: TokenEndpoint) -> tuple[BearerToken, float, float] | TokenFailure:
        """Return the token, the time of its request and its lifetime in seconds."""
        dials = self._dials.get(endpoint.address)
        if dials is None:
            dials = _AddressDials()
            self._dials.put(endpoint.address, dials)
        await dials.slots.acquire()
        with contextlib.ExitStack() as dial_slot:
            dial_slot.callback(dials.slots.release)
            if dials.failure is not None:
                if self._clock() < dials.retry_at:
                    return dials.failure
                # Only this request tries the address again. The others fail until it has ended.
                dials.retry_at = self._clock() + self._timeout
            with await self._start_slots.acquire():
                requested_at = self._clock()
                outcome = await self._send_request(endpoint, dials, dial_slot)
        return outcome if isinstance(outcome, TokenFailure) else (outcome[0], requested_at, outcome[1])

    async def _send_request(
        self, endpoint: TokenEndpoint, dials: _AddressDials, dial_slot: contextlib.ExitStack
    ) -> tuple[BearerToken, float] | TokenFailure:
        """Request a token. `dial_slot` is closed when the connection is open."""
        credential, token_request = endpoint.issuing_credential.credential, endpoint.issuing_credential.request
        identity = credential if isinstance(credential, ClientCertificate) else None
        headers = [("Content-Type", "application/json")]
        if credential.authorization is not None:
            headers.append(("Authorization", credential.authorization.decode("ascii")))
        body = json.dumps(token_request.body).encode()
        try:
            async with self._client.connect(
                endpoint.address, endpoint.ca, identity, time_limit=self._timeout
            ) as session:
                await session.dial()
                dials.failure = None
                dial_slot.close()
                response = await session.request(
                    "POST", token_request.path, headers, body=body, max_body=MAX_RESPONSE_BYTES
                )
        except DialTimeoutError as error:
            dials.failure, dials.retry_at = TokenFailure(message=str(error)), self._clock() + DIAL_RETRY_INTERVAL
            return dials.failure
        except TargetError as error:
            dials.failure = None
            return TokenFailure(message=str(error))
        if response.status != 201:
            refused = response.status in (400, 401, 403, 404, 422)
            message = describe_failure(response.status, token_request, endpoint.secret_name)
            return TokenFailure(message=message, refused=refused, retry_after=_retry_after(response))
        try:
            token_response = parse_token_response(
                _parse_response(response), endpoint.issuing_credential, now=time.time()
            )
        except ParseError as error:
            return TokenFailure(message=f"the target {error.reason}")
        return token_response.token, token_response.lifetime


def _parse_response(response: TargetResponse) -> object:
    if not response.is_complete:
        raise ParseError("", f"answered the request for a token with more than {MAX_RESPONSE_BYTES} bytes")
    try:
        return load_json(response.body)
    except ValueError:
        raise ParseError("", "answered the request for a token with something else than JSON") from None


def _retry_after(response: TargetResponse) -> int | None:
    """Return the seconds of Retry-After (RFC 9110 section 10.2.3), or None for a date."""
    value = response.header(b"retry-after") or b""
    return int(value) if value.isdigit() and len(value) < 6 else None
