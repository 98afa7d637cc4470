"""Secrets that Connectors name and that no other watch brings: one watch each, by name, and not too many.

RBAC cannot limit a watch to some Secrets of a type, so Secrets of other types are never watched as a whole.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Never, Protocol

from connector_store.domain.auth import is_ours
from connector_store.domain.models import Connector
from connector_store.domain.names import ObjectKey
from connector_store.store import Store

logger = logging.getLogger(__name__)

MAX_WATCHES: Final = 500
MAX_PER_NAMESPACE: Final = 50
"""So that one namespace cannot take all of them."""

_SETTLE: Final = 1.0
"""Seconds from a change to a look at it: a Secret applied beside its Connector needs no watch of its own."""


class Runner(Protocol):
    """What follows one Secret until it is cancelled; `synced` once it is known whether there is one."""

    synced: asyncio.Event

    async def run(self) -> Never: ...


class NamedSecrets:
    """Starts and ends watches as Connectors and Secrets come and go; `have` tells what other watches bring."""

    def __init__(
        self,
        store: Store,
        have: Callable[[ObjectKey], bool],
        watch: Callable[[ObjectKey, str], Runner],
        *,
        settle: float = _SETTLE,
        limit: int = MAX_WATCHES,
        limit_per_namespace: int = MAX_PER_NAMESPACE,
        on_known: Callable[[ObjectKey], None] = lambda key: None,
    ) -> None:
        """`watch` gets the Secret's name and the store's source for it.

        `on_known` is called when `knows` turns true.
        """
        self._store = store
        self._have = have
        self._watch = watch
        self._settle = settle
        self._limit = limit
        self._limit_per_namespace = limit_per_namespace
        self._on_known = on_known
        self._runners: dict[ObjectKey, Runner] = {}
        self._left_out: frozenset[ObjectKey] = frozenset()
        self._running: dict[ObjectKey, asyncio.Task[None]] = {}
        self._full = False

    async def run(self) -> Never:
        changed = asyncio.Event()
        changed.set()
        unsubscribe = self._store.subscribe(lambda keys: changed.set())
        try:
            while True:
                await changed.wait()
                await asyncio.sleep(self._settle)
                changed.clear()
                self._reconcile()
        finally:
            unsubscribe()
            for key in tuple(self._running):
                self._end(key)

    def knows(self, key: ObjectKey) -> bool:
        """Whether a Secret that Connectors name, and the store lacks, is known to be absent (or can never be known)."""
        runner = self._runners.get(key)
        return key in self._left_out if runner is None else runner.synced.is_set()

    async def _follow(self, key: ObjectKey, runner: Runner) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(runner.run())
            await runner.synced.wait()
            self._on_known(key)

    def _reconcile(self) -> None:
        wanted = self._wanted()
        for key in [each for each in self._running if each not in wanted]:
            self._end(key)
        chosen = choose(wanted, self._running, limit=self._limit, per_namespace=self._limit_per_namespace)
        for key in chosen:
            runner = self._runners[key] = self._watch(key, _source(key))
            self._running[key] = asyncio.create_task(self._follow(key, runner))
        left_out = wanted - self._running.keys()
        fresh, self._left_out = left_out - self._left_out, left_out
        for key in fresh:
            self._on_known(key)
        self._tell_full(len(left_out))

    def _wanted(self) -> frozenset[ObjectKey]:
        return frozenset(
            key
            for connector in self._store.connectors()
            if isinstance(connector, Connector)
            and is_ours(connector, self._store.connector_class(connector.class_name))
            for key in connector.secret_keys
            if not self._have(key)
        )

    def _end(self, key: ObjectKey) -> None:
        self._running.pop(key).cancel()
        del self._runners[key]
        self._store.forget(_source(key))

    def _tell_full(self, left_out: int) -> None:
        if left_out > 0 and not self._full:
            logger.warning(
                "%d Secrets that Connectors name are not watched: at most %d in all and %d in one namespace can be, "
                "of other types than the bearer token's; give auth Secrets that type, and put CAs into them",
                left_out,
                self._limit,
                self._limit_per_namespace,
            )
        self._full = left_out > 0


def choose(
    wanted: Iterable[ObjectKey], running: Mapping[ObjectKey, object], *, limit: int, per_namespace: int
) -> list[ObjectKey]:
    """Which of `wanted` to start beside what is running; in order of name, so that replicas choose alike."""
    taken = Counter(key.namespace for key in running)
    chosen: list[ObjectKey] = []
    for key in sorted(each for each in wanted if each not in running):
        if len(running) + len(chosen) < limit and taken[key.namespace] < per_namespace:
            taken[key.namespace] += 1
            chosen.append(key)
    return chosen


def _source(key: ObjectKey) -> str:
    return f"Secret {key}"
