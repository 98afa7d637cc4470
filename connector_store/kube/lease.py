"""Leader election with a Lease (coordination.k8s.io/v1), with the timing of Kubernetes' own components.

The leader renews the Lease every RETRY_PERIOD. If it cannot for RENEW_DEADLINE, it stops leading, before others may
acquire the Lease after LEASE_DURATION. Each candidate measures the time since it saw the Lease change, so clocks need
not agree.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Never

from connector_store.domain.base import rfc3339
from connector_store.domain.base.names import ObjectKey
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import LEASES

logger = logging.getLogger(__name__)

LEASE_DURATION: Final = 15
RENEW_DEADLINE: Final = 10.0
RETRY_PERIOD: Final = 2.0
"""Seconds. Source: k8s.io/component-base, LeaderElectionConfiguration, as in kube-controller-manager."""

_RELEASE_TIMEOUT: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedLease:
    """Lease as it was when it changed last. `observed_at` is that time in monotonic seconds."""

    holder: str
    resource_version: str
    duration: float
    transitions: int
    acquire_time: str
    observed_at: float


def observe(raw: Mapping[str, Any], previous: ObservedLease | None, now: float) -> ObservedLease:
    """Parse a Lease. Its `observed_at` is new only if the Lease changed since `previous`."""
    spec = raw.get("spec") or {}
    resource_version = str((raw.get("metadata") or {}).get("resourceVersion") or "")
    if previous is not None and previous.resource_version == resource_version:
        return previous
    return ObservedLease(
        holder=str(spec.get("holderIdentity") or ""),
        resource_version=resource_version,
        duration=float(spec.get("leaseDurationSeconds") or LEASE_DURATION),
        transitions=int(spec.get("leaseTransitions") or 0),
        acquire_time=str(spec.get("acquireTime") or ""),
        observed_at=now,
    )


def may_acquire(lease: ObservedLease, identity: str, now: float) -> bool:
    """Return True if the Lease is ours, has no holder, or was not renewed for its duration."""
    return lease.holder in ("", identity) or now >= lease.observed_at + lease.duration


def lease_spec(identity: str, lease: ObservedLease | None, now: datetime) -> dict[str, Any]:
    """Return the `spec` with which `identity` acquires or renews the Lease."""
    timestamp = rfc3339.format_micro_time(now)
    is_renewal = lease is not None and lease.holder == identity
    transitions = 0 if lease is None else lease.transitions + (0 if is_renewal else 1)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": LEASE_DURATION,
        "acquireTime": lease.acquire_time if lease is not None and is_renewal and lease.acquire_time else timestamp,
        "renewTime": timestamp,
        "leaseTransitions": transitions,
    }


def attempt_timeout(remaining: float) -> float:
    """Return the seconds for one attempt. A request that hangs leaves time for another attempt."""
    return max(0.0, min(remaining, RENEW_DEADLINE / 2))


class LeaderElector:
    """Candidate for the Lease. `is_leading` is True while the Lease is ours."""

    def __init__(
        self,
        client: KubeClient,
        key: ObjectKey,
        identity: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a candidate. `identity` must be unique among candidates, even after a restart."""
        self.is_leading = False
        self._client = client
        self._collection = LEASES.path(key.namespace)
        self._path = LEASES.path(key.namespace, key.name)
        self._name = key.name
        self._identity = identity
        self._clock = clock
        self._lease: ObservedLease | None = None
        self._must_read = True
        self._logged_problem: str | None = None

    async def run(self, lead: Callable[[], Awaitable[object]]) -> Never:
        """Run `lead` while this candidate leads, and cancel it before others may. Cancel `run` to release the Lease."""
        while True:
            await self._acquire()
            logger.info("%s leads", self._identity)
            self.is_leading = True
            await self._run_leader(lead)
            logger.warning(
                "%s does not lead any more: the Lease could not be renewed for %s s", self._identity, RENEW_DEADLINE
            )

    async def _acquire(self) -> None:
        while True:
            if await self._try_acquire_or_renew(RENEW_DEADLINE):
                return
            await asyncio.sleep(RETRY_PERIOD * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not security

    async def _run_leader(self, lead: Callable[[], Awaitable[object]]) -> None:
        """Run `lead` until the Lease is lost. Raises what `lead` raises."""
        work = asyncio.ensure_future(lead())
        renewal = asyncio.ensure_future(self._renew_until_lost())
        try:
            await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel_and_wait(work)
            await _cancel_and_wait(renewal)
            self.is_leading = False
            # Release the Lease only now, when this process does not write any more.
            await self._release()
        for each in (work, renewal):
            if not each.cancelled():
                each.result()

    async def _renew_until_lost(self) -> None:
        while self._lease is not None:
            await asyncio.sleep(RETRY_PERIOD)
            deadline = self._lease.observed_at + RENEW_DEADLINE
            renewed = await self._try_acquire_or_renew(deadline - self._clock())
            if not renewed and (self._clock() >= deadline or self._lease.holder != self._identity):
                return

    async def _try_acquire_or_renew(self, remaining: float) -> bool:
        """Acquire or renew the Lease. Return False if another holds it, or if it fails. `remaining` is in seconds."""
        try:
            async with asyncio.timeout(attempt_timeout(remaining)):
                return await self._acquire_or_renew()
        except TimeoutError:
            self._log_problem("no answer")
        except ApiError as error:
            self._log_problem(str(error))
        return False

    def _log_problem(self, problem: str) -> None:
        if problem != self._logged_problem:
            self._logged_problem = problem
            logger.warning("lease %s: %s; it is tried again", self._name, problem)

    async def _acquire_or_renew(self) -> bool:
        started_at = self._clock()
        is_holder = self._lease is not None and self._lease.holder == self._identity
        lease = self._lease if is_holder and not self._must_read else await self._read()
        if lease is not None and not may_acquire(lease, self._identity, self._clock()):
            return False
        # If the write fails, its effect is unknown. Read the Lease before the next attempt.
        self._must_read = True
        response = await self._write(lease)
        # Count from before the request: the server may have written the Lease long before its response arrived.
        self._lease = observe(response, None, started_at)
        self._must_read, self._logged_problem = False, None
        return True

    async def _write(self, lease: ObservedLease | None) -> Mapping[str, Any]:
        metadata = {"name": self._name} | ({"resourceVersion": lease.resource_version} if lease else {})
        spec = lease_spec(self._identity, lease, datetime.now(UTC))
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        if lease is None:
            return await self._client.create(self._collection, body)
        return await self._client.replace(self._path, body)

    async def _read(self) -> ObservedLease | None:
        raw = await self._client.find(self._path)
        if raw is None:
            return None
        observed = observe(raw, self._lease, self._clock())
        # Our write changed the version, and its response was lost. This does not extend the time that we may lead.
        if self._lease is None or observed.holder != self._identity or self._lease.holder != self._identity:
            self._lease = observed
        else:
            self._lease = replace(observed, observed_at=self._lease.observed_at)
        return self._lease

    async def _release(self) -> None:
        """Release the Lease if it is still ours, so that the next leader need not wait until it expires."""
        lease, self._lease, self._must_read = self._lease, None, True
        if lease is None or lease.holder != self._identity:
            return
        spec = {"holderIdentity": "", "leaseDurationSeconds": 1}
        body = {"metadata": {"resourceVersion": lease.resource_version}, "spec": spec}
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                await self._client.patch(self._path, body)
        except (ApiError, TimeoutError) as error:
            logger.info("lease %s is not released; it expires by itself: %s", self._name, error)


async def _cancel_and_wait(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})
