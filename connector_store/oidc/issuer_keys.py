"""Keys of one issuer, fetched on demand, cached, and refreshed in the background.

OpenID Connect Discovery 1.0 section 4 defines the way from the issuer to its key set. An unknown key name can be a new
key. The key set is then fetched again, at most once in `MIN_FETCH_INTERVAL` seconds, and the check waits for it. The
number of checks that wait is bounded, because strangers can invent key names. If the issuer is unavailable, cached keys
are used until they are `max_age` seconds old.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.callers.authentication_config import Issuer
from connector_store.oidc.fetch import DocumentFetcher, FetchError
from connector_store.oidc.key_set import KeySet, VerificationKey, parse_key_set
from connector_store.waiting_places import WaitingPlaces

logger = logging.getLogger(__name__)

MAX_AGE: Final = 6 * 3600.0
"""Default of the setting `jwks-max-age`, in seconds."""
REFRESH_INTERVAL: Final = 300.0
"""Seconds after which keys are fetched again in the background. It bounds the use of a revoked key."""
MIN_FETCH_INTERVAL: Final = 10.0
"""Minimum seconds between two fetches because of unknown key names or failures."""

MAX_KEY_WAITERS: Final = 50
"""Maximum number of checks that wait for a new key of one issuer. If there are more, the client address with the most
loses its newest one."""


class KeysUnavailableError(Exception):
    """The keys of an issuer are unknown and cannot be fetched. The text names the issuer."""


class IssuerKeys:
    """Cached keys of `issuer`. `now` is a monotonic clock in seconds."""

    def __init__(
        self,
        issuer: Issuer,
        fetch: DocumentFetcher,
        *,
        max_age: float = MAX_AGE,
        now: Callable[[], float] = time.monotonic,
        min_fetch_interval: float = MIN_FETCH_INTERVAL,
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._max_age = max_age
        self._now = now
        self._min_fetch_interval = min_fetch_interval
        self._key_set: KeySet | None = None
        self._fetched_at = 0.0
        self._attempted_at: float | None = None
        self._last_error = "no fetch has been attempted"
        self._refresh_task: asyncio.Task[None] | None = None
        self._waiting = WaitingPlaces[asyncio.Timeout](MAX_KEY_WAITERS, on_evicted=_end_wait)
        """Checks that wait for a new key, by the address of the client."""

    async def find(self, kid: str, algorithm: str, source_ip: str) -> tuple[VerificationKey, ...]:
        """Return the candidate keys of a signature, which can be none.

        `source_ip` is the address of the client that sent it. Raises KeysUnavailableError if the keys are unknown and
        cannot be fetched.
        """
        key_set = self._current_key_set()
        if key_set is None:
            if self._may_fetch():
                await self._wait_for_refresh()
            key_set = self._current_key_set()
            if key_set is None:
                raise KeysUnavailableError(f"cannot fetch the signing keys of {self._issuer.url}: {self._last_error}")
        elif self._now() - self._fetched_at >= REFRESH_INTERVAL and self._may_fetch():
            self._start_refresh()
        if kid and not key_set.has_key(kid):
            key_set = await self._wait_for_newer(key_set, kid, source_ip)
        return key_set.find(kid, algorithm)

    async def close(self) -> None:
        """Cancel a running fetch."""
        if self._refresh_task is not None:
            self._refresh_task.cancel()
            await asyncio.gather(self._refresh_task, return_exceptions=True)

    def _current_key_set(self) -> KeySet | None:
        return self._key_set if self._now() - self._fetched_at < self._max_age else None

    def _may_fetch(self) -> bool:
        return (
            self._refresh_task is not None
            or self._attempted_at is None
            or self._now() - self._attempted_at >= self._min_fetch_interval
        )

    def _seconds_until_fetch(self) -> float:
        return max(0.0, (self._attempted_at or 0.0) + self._min_fetch_interval - self._now())

    async def _wait_for_newer(self, key_set: KeySet, kid: str, source_ip: str) -> KeySet:
        """Fetch a newer key set while this check has a place among those that wait."""
        try:
            async with asyncio.timeout(None) as place:
                if not self._waiting.add(source_ip, place):
                    raise TimeoutError
                try:
                    return await self._fetch_newer(key_set, kid)
                finally:
                    self._waiting.remove(source_ip, place)
        except TimeoutError:
            raise KeysUnavailableError(f"too many checks wait for a new signing key of {self._issuer.url}") from None

    async def _fetch_newer(self, key_set: KeySet, kid: str) -> KeySet:
        """Fetch a newer key set once the fetch interval allows it.

        An issuer can sign with a new key immediately, so an unknown `kid` is not an error yet.
        """
        # The event loop uses another clock than `now`, so a sleep can end a millisecond early.
        while not self._may_fetch() and self._current_key_set() in (None, key_set):  # noqa: ASYNC110 - waits for the clock
            await asyncio.sleep(self._seconds_until_fetch())
        newer_key_set = self._current_key_set()
        # Another waiting check may have fetched it already.
        if newer_key_set is None or newer_key_set is key_set or not newer_key_set.has_key(kid):
            if self._may_fetch():
                await self._wait_for_refresh()
            newer_key_set = self._current_key_set()
        if newer_key_set is None or (newer_key_set is key_set and self._last_error):
            raise KeysUnavailableError(f"cannot fetch a new signing key of {self._issuer.url}: {self._last_error}")
        return newer_key_set

    async def _wait_for_refresh(self) -> None:
        # A cancelled check must not cancel the fetch for other checks.
        await asyncio.shield(self._start_refresh())

    def _start_refresh(self) -> asyncio.Task[None]:
        if self._refresh_task is None:
            self._attempted_at = self._now()
            self._refresh_task = asyncio.create_task(self._refresh())
            self._refresh_task.add_done_callback(self._on_refresh_done)
        return self._refresh_task

    def _on_refresh_done(self, task: asyncio.Task[None]) -> None:
        self._refresh_task = None

    async def _refresh(self) -> None:
        started_at = self._now()
        try:
            key_set = await self._fetch_key_set()
        except (FetchError, ParseError) as error:
            if self._last_error != str(error):
                logger.warning("cannot refresh the signing keys of issuer %s: %s", self._issuer.url, error)
            self._last_error = str(error)
            return
        if self._last_error and self._key_set is not None:
            logger.info("refreshed the signing keys of issuer %s after a failure", self._issuer.url)
        self._key_set, self._fetched_at, self._last_error = key_set, started_at, ""

    async def _fetch_key_set(self) -> KeySet:
        discovery = Fields(await self._fetch(self._issuer.discovery_url), "")
        if discovery.text("issuer") != self._issuer.url:
            raise ParseError("issuer", f"{self._issuer.discovery_url} is about another issuer")
        jwks_uri = discovery.text("jwks_uri")
        if jwks_uri is None or not jwks_uri.startswith("https://"):
            raise ParseError("jwks_uri", f"{self._issuer.discovery_url} names no https URL")
        return parse_key_set(await self._fetch(jwks_uri))


def _end_wait(place: asyncio.Timeout, count: int) -> None:
    place.reschedule(asyncio.get_running_loop().time())
