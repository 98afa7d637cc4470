"""Connections to targets that have nobody to serve, kept a while for whoever asks the same Connector next.

A TLS handshake costs both sides more than a request. One is kept only after an exchange that ended clean, it is looked
at before it is given away, and it serves only what it was made for: see `Upstream.serves`.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args

from addons.relay.upstream import Upstream
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.verdict import Resolution
from connector_store.domain.objects.models import Target
from connector_store.trust import TrustStore

MOST: Final = 256
"""Connections that are kept at once; one costs some 60 kB and a file descriptor."""
MOST_OF_ONE: Final = 32
"""Of them, those of one Connector."""
MAX_AGE: Final = 300.0
"""Seconds from its handshake that a connection is given to others: a name that leads elsewhere, a certificate that was
replaced and a target with several servers are seen by then."""

Reason = Literal["idle", "old", "full", "changed", "ended", "surplus", "draining"]
"""Why one is dropped: nobody came in time, `MAX_AGE`, one of the bounds, the Connector is gone or has changed, the
target has ended it, the target said what was not asked for, the proxy ends."""
REASONS: Final[tuple[str, ...]] = get_args(Reason)


class Lookup(Protocol):
    def get(self, key: ObjectKey) -> Resolution: ...


class Kept:
    """See the module's text. `seconds` is how long one may have nothing to do, with its client or here; 0: none is
    kept."""

    def __init__(
        self,
        store: Lookup,
        trust: TrustStore,
        *,
        seconds: float,
        most: int = MOST,
        most_of_one: int = MOST_OF_ONE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.taken = 0
        """Connections that were given to another client."""
        self.dropped = dict.fromkeys(REASONS, 0)
        """Connections that were kept no longer, or could not be."""
        self.sent_again = 0
        """Requests that were sent once more, because one failed before it answered."""
        self._store = store
        self._trust = trust
        self._seconds = seconds
        self._most = most
        self._most_of_one = most_of_one
        self._now = now
        # Both in the order in which they came.
        self._ends: dict[Upstream, float] = {}
        self._of: dict[ObjectKey, dict[Upstream, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._ends)

    def put(self, upstream: Upstream) -> None:
        """Keep it if it may serve another exchange, else close it; it is no longer its client's either way."""
        if upstream.rests is None or not self._seconds:
            upstream.leave()
            return
        try:
            self._keep(upstream)
        except BaseException:
            # It is nobody's any more.
            if upstream in self._ends:
                self._remove(upstream)
            upstream.leave()
            raise

    def _keep(self, upstream: Upstream) -> None:
        upstream.part(lambda ended: self._drop(upstream, "ended" if ended else "surplus"))
        self._ends[upstream] = self._end(upstream)
        self._of.setdefault(upstream.key, {})[upstream] = None
        # What it says meanwhile is read, and tells; whoever takes it looks again.
        reason = self._why_not(upstream) or (None if self._leads_on(upstream) else "changed")
        if reason is not None:
            self._drop(upstream, reason)
            return
        same = self._of[upstream.key]
        if len(same) > self._most_of_one:
            self._drop(next(iter(same)), "full")
        elif len(self._ends) > self._most:
            self._drop(next(iter(self._ends)), "full")
        self._arm(self._ends[upstream])

    def take(self, target: Target, trust: TrustStore) -> Upstream | None:
        """The one that was used last among those that are good for `target` at this moment; join it to its client."""
        for upstream in reversed(tuple(self._of.get(target.key, ()))):
            reason = self._why_not(upstream) or (None if upstream.leads_to(target, trust) else "changed")
            if reason is None and not upstream.quiet:
                reason = "surplus"
            if reason is None:
                self._remove(upstream)
                self.taken += 1
                return upstream
            self._drop(upstream, reason)
        return None

    def changed(self, keys: frozenset[ObjectKey]) -> None:
        """A subscriber of the store: drop what a Connector does not lead to any more."""
        for key in keys & self._of.keys():
            for upstream in tuple(self._of[key]):
                reason = self._why_not(upstream) or (None if self._leads_on(upstream) else "changed")
                if reason is not None:
                    self._drop(upstream, reason)

    def close(self) -> None:
        """Drop all, and keep none from now on."""
        self._closed = True
        for upstream in tuple(self._ends):
            self._drop(upstream, "draining")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leads_on(self, upstream: Upstream) -> bool:
        """True if it leads to what its Connector leads to now."""
        found = self._store.get(upstream.key)
        return isinstance(found, Target) and upstream.leads_to(found, self._trust)

    def _why_not(self, upstream: Upstream) -> Reason | None:
        """Why it is good for nobody; None if it is."""
        if self._closed:
            return "draining"
        if not upstream.at_rest:
            return "ended" if upstream.ended else "surplus"
        if self._ends[upstream] <= self._now():
            return "old" if upstream.made + MAX_AGE <= self._now() else "idle"
        return None

    def _end(self, upstream: Upstream) -> float:
        """When it is not given to anybody any more."""
        rests = upstream.rests if upstream.rests is not None else upstream.made
        return min(rests + self._seconds, upstream.made + MAX_AGE)

    def _drop(self, upstream: Upstream, reason: Reason) -> None:
        self._remove(upstream)
        self.dropped[reason] += 1
        upstream.leave()

    def _remove(self, upstream: Upstream) -> None:
        del self._ends[upstream]
        same = self._of[upstream.key]
        del same[upstream]
        if not same:
            del self._of[upstream.key]

    def _arm(self, end: float) -> None:
        """Look again at `end`, unless that is done earlier."""
        loop = asyncio.get_running_loop()
        when = loop.time() + end - self._now()
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._now()
        for upstream, end in tuple(self._ends.items()):
            if end <= now:
                self._drop(upstream, "old" if upstream.made + MAX_AGE <= now else "idle")
        if self._ends:
            self._arm(min(self._ends.values()))
