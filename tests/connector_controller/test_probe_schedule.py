import asyncio
import random

import pytest

from connector_controller import probe_schedule
from connector_controller.probe_schedule import ProbeSchedule
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Address, HttpProbe
from connector_store.domain.status.conditions import ProbeFailure, ProbeOutcomes, ProbeResponse
from connector_store.probes import ProbeRequest
from tests.fakes.waiting import until

KEY = ObjectKey("a", "k8s")
WELL = ProbeOutcomes(liveness=ProbeResponse(status=200))


def asked(host: str) -> ProbeRequest:
    return ProbeRequest(address=Address(host=host, port=443), liveness=HttpProbe(path="/livez"))


class World:
    def __init__(self, *, interval: float = 1000.0, places: int = 64) -> None:
        self.hosts: list[str] = []
        self.results: list[ObjectKey] = []
        self.cancelled: list[str] = []
        self.answers: dict[str, ProbeOutcomes | Exception] = {}
        self.hanging: set[str] = set()
        rng = random.Random(1)  # noqa: S311 - pauses, and the same ones each time
        self.schedule = ProbeSchedule(self.probe, self.on_result, interval=interval, start_slots=places, rng=rng)

    async def probe(self, request: ProbeRequest) -> ProbeOutcomes:
        host = request.address.host
        self.hosts.append(host)
        if host in self.hanging:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.append(host)
                raise
        answer = self.answers.get(host, WELL)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def on_result(self, key: ObjectKey) -> None:
        self.results.append(key)


async def test_a_new_request_is_probed_at_once_and_its_outcomes_stay() -> None:
    world = World()
    assert world.schedule.get_result(KEY, asked("one")) is None
    await until(lambda: world.results == [KEY])
    assert world.schedule.get_result(KEY, asked("one")) == WELL
    assert world.hosts == ["one"]
    assert world.schedule.get_result(KEY, asked("two")) is None
    await until(lambda: world.hosts == ["one", "two"])
    world.schedule.close()


async def test_probes_repeat_every_interval_and_report_only_different_outcomes() -> None:
    world = World(interval=0.01)
    world.schedule.get_result(KEY, asked("one"))
    await until(lambda: len(world.hosts) >= 3)
    assert world.results == [KEY]
    world.answers["one"] = ProbeOutcomes(liveness=ProbeFailure(message="gone"))
    await until(lambda: len(world.results) == 2)
    assert world.schedule.get_result(KEY, asked("one")) == world.answers["one"]
    world.schedule.close()


BAD = ProbeOutcomes(liveness=ProbeFailure(message="gone"))


@pytest.mark.parametrize(
    ("was_well", "answers", "expected"),
    [
        pytest.param(False, [BAD], 1, id="a first bad answer is told at once"),
        pytest.param(True, [BAD, BAD], 0, id="not where what is shown is good"),
        pytest.param(True, [BAD, BAD, BAD], 1, id="but when it is confirmed"),
        pytest.param(False, [WELL, BAD, BAD], 1, id="one bad answer after a good one is no news"),
        pytest.param(False, [WELL, BAD, BAD, BAD], 2, id="three are"),
        pytest.param(False, [WELL, BAD, WELL, BAD, BAD, WELL], 1, id="a good one between counts anew"),
        pytest.param(False, [BAD, WELL], 2, id="a good answer is told at once"),
        pytest.param(False, [WELL, BAD, BAD, BAD, WELL, BAD], 3, id="and counts as good again"),
    ],
)
async def test_enough_failures_in_a_row_end_a_healthy_state(was_well, answers, expected) -> None:
    remaining: list[ProbeOutcomes] = list(answers)
    asked_all = asyncio.Event()
    results = list[ObjectKey]()

    async def probe(request: ProbeRequest) -> ProbeOutcomes:
        if not remaining:
            asked_all.set()
            await asyncio.Event().wait()
        return remaining.pop(0)

    schedule = ProbeSchedule(probe, results.append, interval=0.001)
    schedule.get_result(KEY, asked("one"), was_ready=was_well)
    async with asyncio.timeout(120):
        await asked_all.wait()
    schedule.close()
    assert len(results) == expected


async def test_the_interval_grows_with_the_number() -> None:
    world = World(interval=60.0)
    for number in range(3000):
        world.schedule.get_result(ObjectKey("a", str(number)), asked("one"))
        if number == 99:
            assert world.schedule.interval == 60.0
    assert world.schedule.interval == 100.0
    world.schedule.close()


async def test_a_forgotten_or_changed_request_ends_its_probe() -> None:
    world = World()
    world.hanging = {"one", "two"}
    world.schedule.get_result(KEY, asked("one"))
    await until(lambda: world.hosts == ["one"])
    world.schedule.get_result(KEY, asked("two"))
    await until(lambda: world.cancelled == ["one"] and world.hosts == ["one", "two"])
    world.schedule.forget(KEY)
    await until(lambda: world.cancelled == ["one", "two"])
    world.schedule.forget(KEY)
    assert world.results == []


async def test_dead_targets_release_their_slots_and_do_not_delay_others(monkeypatch) -> None:
    monkeypatch.setattr(probe_schedule, "SLOT_TIMEOUT", 0.01)
    world = World(places=2)
    dead = [f"dead-{number}" for number in range(20)]
    world.hanging = set(dead)
    for number, host in enumerate([*dead, "alive"]):
        world.schedule.get_result(ObjectKey("a", f"c{number}"), asked(host))
    await until(lambda: world.results == [ObjectKey("a", "c20")])
    world.schedule.close()
    await until(lambda: len(world.cancelled) == len(dead))


async def test_at_most_start_slots_probes_start_together(monkeypatch) -> None:
    monkeypatch.setattr(probe_schedule, "SLOT_TIMEOUT", 120.0)
    world = World(places=2)
    world.hanging = {"one", "two", "three"}
    for number, host in enumerate(["one", "two", "three"]):
        world.schedule.get_result(ObjectKey("a", f"c{number}"), asked(host))
    await until(lambda: len(world.hosts) == 2)
    assert world.hosts == ["one", "two"]
    world.schedule.forget(ObjectKey("a", "c0"))
    await until(lambda: len(world.hosts) == 3)
    world.schedule.close()


async def test_a_probe_that_raises_is_a_failure_and_is_repeated(caplog) -> None:
    world = World(interval=0.01)
    world.answers["one"] = RuntimeError("bug")
    world.schedule.get_result(KEY, asked("one"))
    await until(lambda: len(world.results) == 1)
    outcomes = world.schedule.get_result(KEY, asked("one"))
    assert outcomes is not None
    assert isinstance(outcomes.liveness, ProbeFailure)
    assert "probe of a/k8s" in caplog.text
    del world.answers["one"]
    await until(lambda: len(world.results) == 2)
    world.schedule.close()


async def test_a_request_without_probes_has_its_outcome_at_once() -> None:
    world = World()
    empty = ProbeRequest(address=Address(host="one", port=443))
    assert world.schedule.get_result(KEY, empty) == ProbeOutcomes()
    assert world.hosts == []


async def test_a_shorter_interval_also_applies_to_probes_that_wait() -> None:
    world = World(interval=3600)
    world.schedule.get_result(KEY, asked("one"))
    await until(lambda: world.hosts == ["one"])
    world.schedule.set_interval(0.01)
    await until(lambda: len(world.hosts) > 3)
    world.schedule.set_interval(3600)
    assert world.schedule.interval == 3600
    world.schedule.close()
