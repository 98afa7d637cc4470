"""The keys of one issuer: asked for when they are needed, kept, and renewed beside the callers.

OpenID Connect Discovery 1.0 section 4 leads from the issuer to its key set. A key name that is not known may be new:
then the set is asked for again, at most once in UNKNOWN_AGAIN seconds, and who brought it waits for that. While the
issuer is away known keys serve until they are `max_age` seconds old.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.callers.authentication import Issuer
from connector_store.oidc.fetch import Fetch, FetchError
from connector_store.oidc.key_set import Key, KeySet, parse_key_set

logger = logging.getLogger(__name__)

MAX_AGE: Final = 6 * 3600.0
"""Seconds; the setting `jwks-max-age`."""
RENEW: Final = 300.0
"""Seconds after which keys are asked for again, without anybody who waits: a withdrawn key serves no longer."""
UNKNOWN_AGAIN: Final = 10.0
"""Seconds between two askings that unknown key names or a failure bring about."""


class KeysUnavailableError(Exception):
    """The issuer's keys are not known, and it cannot be asked; the text names it."""


class IssuerKeys:
    """Keys of `issuer`. `now` is a monotonic clock in seconds."""

    def __init__(
        self,
        issuer: Issuer,
        fetch: Fetch,
        *,
        max_age: float = MAX_AGE,
        now: Callable[[], float] = time.monotonic,
        again: float = UNKNOWN_AGAIN,
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._max_age = max_age
        self._now = now
        self._again = again
        self._known: KeySet | None = None
        self._known_since = 0.0
        self._asked_at: float | None = None
        self._problem = "has not been asked yet"
        self._flight: asyncio.Task[None] | None = None

    async def find(self, kid: str, algorithm: str) -> tuple[Key, ...]:
        """The keys that may have signed; none if the issuer has no such key. KeysUnavailableError if nobody knows."""
        known = self._fresh()
        if known is None:
            if self._may_ask():
                await self._renewed()
            known = self._fresh()
            if known is None:
                raise KeysUnavailableError(f"the keys of {self._issuer.url} cannot be had: {self._problem}")
        elif self._now() - self._known_since >= RENEW and self._may_ask():
            self._renewal()
        if kid and not known.knows(kid):
            known = await self._asked_again(known, kid)
        return known.find(kid, algorithm)

    async def close(self) -> None:
        """End what runs."""
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.gather(self._flight, return_exceptions=True)

    def _fresh(self) -> KeySet | None:
        return self._known if self._now() - self._known_since < self._max_age else None

    def _may_ask(self) -> bool:
        return self._flight is not None or self._asked_at is None or self._now() - self._asked_at >= self._again

    def _until_again(self) -> float:
        return max(0.0, (self._asked_at or 0.0) + self._again - self._now())

    async def _asked_again(self, known: KeySet, kid: str) -> KeySet:
        """The keys with one asking more, once its time has come: an issuer may sign with a key the moment it has it."""
        # A loop's clock is not `now`: a sleep may end a millisecond early.
        while not self._may_ask():  # noqa: ASYNC110 - the clock is what is waited for
            await asyncio.sleep(self._until_again())
        newer = self._fresh()
        # Somebody else who waited may have brought it.
        if newer is None or newer is known or not newer.knows(kid):
            if self._may_ask():
                await self._renewed()
            newer = self._fresh()
        if newer is None or (newer is known and self._problem):
            raise KeysUnavailableError(f"a new key of {self._issuer.url} cannot be had: {self._problem}")
        return newer

    async def _renewed(self) -> None:
        # A caller that goes away takes the keys from nobody else.
        await asyncio.shield(self._renewal())

    def _renewal(self) -> asyncio.Task[None]:
        if self._flight is None:
            self._asked_at = self._now()
            self._flight = asyncio.create_task(self._renew())
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flight = None

    async def _renew(self) -> None:
        asked_at = self._now()
        try:
            found = await self._ask()
        except (FetchError, ParseError) as error:
            if self._problem != str(error):
                logger.warning("the keys of issuer %s cannot be renewed: %s", self._issuer.url, error)
            self._problem = str(error)
            return
        if self._problem and self._known is not None:
            logger.info("the keys of issuer %s are known again", self._issuer.url)
        self._known, self._known_since, self._problem = found, asked_at, ""

    async def _ask(self) -> KeySet:
        discovered = Fields(await self._fetch(self._issuer.discovery_url), "")
        if discovered.text("issuer") != self._issuer.url:
            raise ParseError("issuer", f"{self._issuer.discovery_url} is about another issuer")
        place = discovered.text("jwks_uri")
        if place is None or not place.startswith("https://"):
            raise ParseError("jwks_uri", f"{self._issuer.discovery_url} names no https URL")
        return parse_key_set(await self._fetch(place))
