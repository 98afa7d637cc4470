"""Leader election by a Lease (coordination.k8s.io/v1), with the timing of Kubernetes' own components.

Whoever holds the Lease renews it every RETRY; who could not for RENEW_DEADLINE stops leading, before others may take
it after DURATION. Time is counted from when a change of the Lease was seen here, so clocks need not agree.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Never

from connector_store.domain.base import rfc3339
from connector_store.domain.base.names import ObjectKey
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import LEASES

logger = logging.getLogger(__name__)

DURATION: Final = 15
RENEW_DEADLINE: Final = 10.0
RETRY: Final = 2.0
"""Seconds; as kube-controller-manager and controller-runtime (LeaderElectionConfiguration of k8s.io/component-base)."""

_RELEASE_TIMEOUT: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A Lease as it was last seen to change, at `seen` (monotonic seconds)."""

    holder: str
    version: str
    duration: float
    transitions: int
    acquired: str
    seen: float


def observe(raw: Mapping[str, Any], last: Held | None, now: float) -> Held:
    """Read a Lease; its time runs anew only if it changed since `last`."""
    spec = raw.get("spec") or {}
    version = str((raw.get("metadata") or {}).get("resourceVersion") or "")
    if last is not None and last.version == version:
        return last
    return Held(
        holder=str(spec.get("holderIdentity") or ""),
        version=version,
        duration=float(spec.get("leaseDurationSeconds") or DURATION),
        transitions=int(spec.get("leaseTransitions") or 0),
        acquired=str(spec.get("acquireTime") or ""),
        seen=now,
    )


def may_take(held: Held, identity: str, now: float) -> bool:
    """True if it is ours, nobody's, or not renewed for as long as its holder promised to."""
    return held.holder in ("", identity) or now >= held.seen + held.duration


def spec_for(identity: str, held: Held | None, now: datetime) -> dict[str, Any]:
    """The `spec` with which `identity` takes or renews it."""
    time_text = rfc3339.format_micro_time(now)
    renewing = held is not None and held.holder == identity
    transitions = 0 if held is None else held.transitions + (0 if renewing else 1)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": DURATION,
        "acquireTime": held.acquired if held is not None and renewing and held.acquired else time_text,
        "renewTime": time_text,
        "leaseTransitions": transitions,
    }


def patience_for(left: float) -> float:
    """Seconds for one try, where `left` are left: one request that hangs leaves time for another."""
    return max(0.0, min(left, RENEW_DEADLINE / 2))


class Election:
    """One candidate. `leading` is True while the Lease is ours."""

    def __init__(
        self,
        client: KubeClient,
        key: ObjectKey,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`identity` must differ between all candidates, restarts included."""
        self.leading = False
        self._client = client
        self._collection = LEASES.path(key.namespace)
        self._path = LEASES.path(key.namespace, key.name)
        self._name = key.name
        self._identity = identity
        self._clock = clock
        self._random = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._held: Held | None = None
        self._stale = True
        self._told: str | None = None

    async def run(self, lead: Callable[[], Awaitable[object]]) -> Never:
        """Run `lead` whenever we lead, and cancel it before anybody else may; cancelling this releases the Lease."""
        while True:
            await self._acquire()
            logger.info("%s leads", self._identity)
            self.leading = True
            await self._lead(lead)
            logger.warning(
                "%s leads no longer: the Lease could not be renewed for %s s", self._identity, RENEW_DEADLINE
            )

    async def _acquire(self) -> None:
        while True:
            if await self._try(RENEW_DEADLINE):
                return
            await asyncio.sleep(RETRY * self._random.uniform(0.8, 1.2))

    async def _lead(self, lead: Callable[[], Awaitable[object]]) -> None:
        """Returns when the Lease is lost; raises what `lead` raises."""
        work = asyncio.ensure_future(lead())
        keeping = asyncio.ensure_future(self._keep())
        try:
            await asyncio.wait({work, keeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(work)
            await _end(keeping)
            self.leading = False
            # Only now, when nothing of ours writes any more, may the next one begin.
            await self._release()
        for each in (work, keeping):
            if not each.cancelled():
                each.result()

    async def _keep(self) -> None:
        while self._held is not None:
            await asyncio.sleep(RETRY)
            deadline = self._held.seen + RENEW_DEADLINE
            renewed = await self._try(deadline - self._clock())
            if not renewed and (self._clock() >= deadline or self._held.holder != self._identity):
                return

    async def _try(self, left: float) -> bool:
        """Take or renew the Lease; False if it is somebody else's, or cannot be had. `left` is in seconds."""
        try:
            async with asyncio.timeout(patience_for(left)):
                return await self._take()
        except TimeoutError:
            self._tell("no answer")
        except ApiError as error:
            self._tell(str(error))
        return False

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            self._told = problem
            logger.warning("lease %s: %s; it is tried again", self._name, problem)

    async def _take(self) -> bool:
        began = self._clock()
        ours = self._held is not None and self._held.holder == self._identity
        held = self._held if ours and not self._stale else await self._read()
        if held is not None and not may_take(held, self._identity, self._clock()):
            return False
        # Whatever becomes of the write, only a read tells what is there then; until it is known to be ours.
        self._stale = True
        answer = await self._write(held)
        # Counted from before the request: it may have been written long before the answer came.
        self._held = observe(answer, None, began)
        self._stale, self._told = False, None
        return True

    async def _write(self, held: Held | None) -> Mapping[str, Any]:
        metadata = {"name": self._name} | ({"resourceVersion": held.version} if held else {})
        spec = spec_for(self._identity, held, datetime.now(UTC))
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        if held is None:
            return await self._client.create(self._collection, body)
        return await self._client.replace(self._path, body)

    async def _read(self) -> Held | None:
        try:
            raw = await self._client.get(self._path)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        found = observe(raw, self._held, self._clock())
        # A write of ours of which the answer was lost changed the version, and not since when we may lead.
        if self._held is None or found.holder != self._identity or self._held.holder != self._identity:
            self._held = found
        else:
            self._held = replace(found, seen=self._held.seen)
        return self._held

    async def _release(self) -> None:
        """Give the Lease up, if it is still ours, so that the next one need not wait for its end."""
        held, self._held, self._stale = self._held, None, True
        if held is None or held.holder != self._identity:
            return
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        body = {"metadata": {"resourceVersion": held.version}, "spec": spec}
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                await self._client.patch(self._path, body)
        except (ApiError, TimeoutError) as error:
            logger.info("lease %s is not released and ends by itself: %s", self._name, error)


async def _end(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
