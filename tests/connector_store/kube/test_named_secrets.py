"""Which Secrets get a watch of their own, and when it ends."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.models import Address, AuthType, Connector, ConnectorClass, Rejected, Secret
from connector_store.domain.names import ObjectKey
from connector_store.kube.named_secrets import NamedSecrets, choose
from connector_store.store import Store


def connector(name: str, secret: str | None = None, ca: str | None = None, cls: str = "k8s") -> Connector:
    address = Address(host="h", port=443)
    key = ObjectKey("a", name)
    return Connector(key=key, class_name=cls, address=address, secret_name=secret, ca_secret_name=ca)


class Watches:
    """Stands for the reflectors: which Secrets are followed now."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.changed = asyncio.Event()

    def watch(self, key: ObjectKey, source: str) -> "Watch":
        assert source == f"Secret {key}"
        return Watch(self, key.name)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.changed.wait()
                self.changed.clear()


class Watch:
    def __init__(self, watches: Watches, name: str) -> None:
        self.synced = asyncio.Event()
        self._watches = watches
        self._name = name

    async def run(self) -> Never:
        self._watches.active.add(self._name)
        self.synced.set()
        self._watches.changed.set()
        try:
            while True:
                await asyncio.Event().wait()
        finally:
            self._watches.active.discard(self._name)
            self._watches.changed.set()


class World:
    def __init__(self) -> None:
        self.store = Store()
        self.watches = Watches()
        self.have: set[ObjectKey] = set()

        self.known: list[ObjectKey] = []

    def make(self, limit: int = 9) -> NamedSecrets:
        return NamedSecrets(
            self.store, self.have.__contains__, self.watches.watch, settle=0, limit=limit, on_known=self.known.append
        )

    def start(self, limit: int = 9) -> asyncio.Task[Never]:
        return asyncio.create_task(self.make(limit).run())


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_secret_is_watched_while_a_connector_names_it(world: World) -> None:
    world.store.put("c", connector("one", secret="s", ca="ca"))
    world.store.put("c", connector("two", ca="ca"))
    task = world.start()
    await world.watches.until(lambda: world.watches.active == {"s", "ca"})
    world.store.remove("c", Connector, ObjectKey("a", "one"))
    await world.watches.until(lambda: world.watches.active == {"ca"})
    task.cancel()
    await world.watches.until(lambda: world.watches.active == set())


async def test_a_secret_that_another_watch_brings_needs_none(world: World) -> None:
    world.store.put("c", connector("one", secret="s"))
    task = world.start()
    await world.watches.until(lambda: world.watches.active == {"s"})
    key = ObjectKey("a", "s")
    world.store.put("Secret a/s", Secret(key=key, type="Opaque"))
    world.have.add(key)
    world.store.put("typed", Secret(key=key, type="typed"))
    await world.watches.until(lambda: world.watches.active == set())
    found = world.store.secret(key)
    assert found is not None
    assert found.type == "typed"
    task.cancel()


async def test_connectors_of_others_and_rejected_ones_need_none(world: World) -> None:
    world.store.put("k", ConnectorClass(name="git", auth_types=(AuthType(name="basic", secret_type="basic"),)))
    world.store.put("c", connector("theirs", secret="s", cls="git"))
    world.store.put("c", Rejected(key=ObjectKey("a", "bad"), class_name="k8s", reason="AddressInvalid", message=""))
    world.store.put("c", connector("ours", secret="t"))
    task = world.start()
    await world.watches.until(lambda: bool(world.watches.active))
    assert world.watches.active == {"t"}
    task.cancel()


async def test_whether_a_secret_is_absent_is_known_once_its_watch_has_listed_or_can_never_be(world: World) -> None:
    world.store.put("c", connector("one", secret="s", ca="t"))
    named = world.make(limit=1)
    key, left_out = ObjectKey("a", "s"), ObjectKey("a", "t")
    assert not named.knows(key)
    task = asyncio.create_task(named.run())
    await world.watches.until(lambda: len(world.known) == 2)
    assert set(world.known) == {key, left_out}
    assert named.knows(key)
    assert named.knows(left_out)
    world.store.remove("c", Connector, ObjectKey("a", "one"))
    await world.watches.until(lambda: not world.watches.active)
    assert not named.knows(key)
    task.cancel()


async def test_what_is_too_much_is_told_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(4):
        world.store.put("c", connector(f"c{number}", secret=f"s{number}"))
    task = world.start(limit=2)
    await world.watches.until(lambda: world.watches.active == {"s0", "s1"})
    world.store.remove("c", Connector, ObjectKey("a", "c0"))
    await world.watches.until(lambda: world.watches.active == {"s1", "s2"})
    assert [message.split()[:2] for message in caplog.messages] == [["2", "Secrets"]]
    task.cancel()


KEYS = st.builds(ObjectKey, st.sampled_from(["a", "b", "c"]), st.sampled_from(["x", "y", "z", "w"]))


@given(st.sets(KEYS), st.sets(KEYS), st.integers(0, 8), st.integers(0, 4))
def test_for_every_wish_the_limits_hold_and_nothing_is_started_twice(
    wanted: set[ObjectKey], running: set[ObjectKey], limit: int, per_namespace: int
) -> None:
    chosen = choose(wanted, dict.fromkeys(running), limit=limit, per_namespace=per_namespace)
    assert set(chosen) <= wanted - running
    assert len(set(chosen)) == len(chosen) <= max(0, limit - len(running))
    counts = Counter(key.namespace for key in [*running, *chosen])
    assert all(counts[key.namespace] <= per_namespace for key in chosen)
