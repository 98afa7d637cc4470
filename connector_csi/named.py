"""The objects of one kind that volumes of this node name, and no others: a cluster may have many, a node uses few.

One watch tells by metadata alone which objects change, and what volumes name is read one by one: when it is asked for
first, and when it has changed. What a status says moves no `metadata.generation`, so it is not read for that.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Never

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.cursor import RawObject
from connector_store.kube.client import KubeClient
from connector_store.kube.queue import WorkQueue, run_workers
from connector_store.kube.reflector import Reflector
from connector_store.kube.resources import Resource

MAX_NAMED: Final = 4096
"""Objects of a kind; beyond, those that were not asked for the longest go first, and are read again when they are."""
UNUSED: Final = 900.0
"""Seconds after which what nobody asks for is forgotten; kubelet has each volume asked for within 90."""
LOOK: Final = 60.0
"""Seconds between two looks at what is used."""
SPREAD: Final = 2.0
"""Seconds within which the nodes that use one object read it after a change."""
READERS: Final = 4
"""Objects that are read at a time."""


class Changed(NamedTuple):
    """What the watch tells of an object."""

    key: ObjectKey
    uid: str
    generation: int


@dataclass(slots=True)
class _Held:
    used: float
    known: asyncio.Event = field(default_factory=asyncio.Event)
    """It has been read, or is known to be absent."""
    state: tuple[str, int] = ("", 0)
    """uid and generation of what was read."""


class Named:
    """Runs until cancelled; `take` gets an object of those that were asked for, or None where there is none."""

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        take: Callable[[ObjectKey, RawObject | None], None],
        *,
        label_selector: str = "",
        watch_timeout: float,
        spread: float = SPREAD,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._resource = resource
        self._take = take
        self._spread = spread
        self._random = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._held: OrderedDict[ObjectKey, _Held] = OrderedDict()
        # What keeps us from reading one object keeps the watch too, which says so once.
        self._queue: WorkQueue[ObjectKey] = WorkQueue(resource.plural, log_level=logging.DEBUG)
        self.watch: Final = Reflector(
            client,
            resource,
            _changed,
            self,
            label_selector=label_selector,
            watch_timeout=watch_timeout,
            changes_only=True,
        )

    def __len__(self) -> int:
        return len(self._held)

    async def know(self, keys: Iterable[ObjectKey]) -> None:
        """Returns when each has been read, or is known to be absent."""
        # All are asked for before one is waited for: READERS are read at a time, and none waits for one that fails.
        for held in [self._ask_for(key) for key in keys]:
            await held.known.wait()

    def use(self, key: ObjectKey) -> None:
        """It is needed still, if it is known at all."""
        held = self._held.get(key)
        if held is not None:
            held.used = asyncio.get_running_loop().time()
            self._held.move_to_end(key)

    async def run(self) -> Never:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch.run())
            tasks.create_task(run_workers(self._queue, self._read, workers=READERS))
            while True:
                await asyncio.sleep(LOOK)
                self.forget_unused()
        raise AssertionError("a reader ended")

    def forget_unused(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._held and now - next(iter(self._held.values())).used > UNUSED:
            self._forget_oldest()

    # The sink of the watch

    def replace(self, objects: tuple[Changed, ...]) -> None:
        """What happened meanwhile is not known."""
        for key, held in self._held.items():
            held.state = ("", 0)
            self._queue.add(key)

    def put(self, obj: Changed) -> None:
        held = self._held.get(obj.key)
        if held is not None and (not obj.generation or held.state != (obj.uid, obj.generation)):
            self._queue.add_after(obj.key, self._random.uniform(0, self._spread))

    def remove(self, obj: Changed) -> None:
        if obj.key in self._held:
            self._queue.add(obj.key)

    def _ask_for(self, key: ObjectKey) -> _Held:
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(0.0)
            self._queue.add(key)
            if len(self._held) > MAX_NAMED:
                self._forget_oldest()
        self.use(key)
        return held

    def _forget_oldest(self) -> None:
        key, _ = self._held.popitem(last=False)
        self._take(key, None)

    async def _read(self, key: ObjectKey) -> None:
        held = self._held.get(key)
        # Once the watch has begun, which adds all keys again, what is read cannot change unnoticed.
        if held is None or not self.watch.synced.is_set():
            return
        path, query = self._resource.path(key.namespace), {"fieldSelector": f"metadata.name={key.name}"}
        # Our role has list, and no get; the items of a list have neither apiVersion nor kind.
        page = await self._client.get(path, query)
        items: list[dict[str, Any]] = page.get("items") or []
        kind = {"apiVersion": self._resource.api_version, "kind": self._resource.kind}
        found = {**kind, **items[0]} if items else None
        if self._held.get(key) is held:
            held.state = _changed(found)[1:] if found is not None else ("", 0)
            self._take(key, found)
            held.known.set()


def _changed(raw: RawObject) -> Changed:
    metadata = raw["metadata"]
    key = ObjectKey(metadata["namespace"], metadata["name"])
    return Changed(key, metadata.get("uid", ""), metadata.get("generation", 0))
