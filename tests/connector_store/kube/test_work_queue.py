import asyncio
import random

import pytest

from connector_store.kube.errors import ApiError
from connector_store.kube.work_queue import INITIAL_BACKOFF, MAX_BACKOFF, WorkQueue, run_workers


def queue() -> WorkQueue[str]:
    return WorkQueue("things", rng=random.Random(1))  # noqa: S311 - pauses, and the same ones each time


async def test_a_key_waits_once_and_keys_keep_their_order() -> None:
    q = queue()
    for key in ("a", "b", "a"):
        q.add(key)
    assert len(q) == 2
    assert [await q.get(), await q.get()] == ["a", "b"]
    assert len(q) == 0


async def test_a_key_that_is_added_during_its_work_is_processed_again_afterwards() -> None:
    q = queue()
    q.add("a")
    assert await q.get() == "a"
    q.add("a")
    q.add("a")
    q.add("b")
    assert await q.get() == "b"
    waiting = asyncio.ensure_future(q.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    q.done("a")
    assert await waiting == "a"
    q.done("a")
    assert len(q) == 0


async def test_of_several_later_times_the_first_counts() -> None:
    q = queue()
    q.add_after("a", 1000)
    q.add_after("a", 0)
    q.add_after("a", 2000)
    assert await q.get() == "a"
    q.add_after("b", 1000)
    q.close()
    assert len(q) == 0


async def test_the_backoff_doubles_up_to_its_maximum_and_restarts_after_success(monkeypatch) -> None:
    q = queue()
    pauses: list[float] = []
    monkeypatch.setattr(q, "add_after", lambda key, seconds: pauses.append(seconds))
    for _ in range(20):
        q.add_rate_limited("a")
    for number, pause in enumerate(pauses):
        whole = min(MAX_BACKOFF, INITIAL_BACKOFF * 2**number)
        assert whole / 2 <= pause <= whole
    assert q.forget("a") == 20
    assert q.forget("a") == 0
    q.add_rate_limited("a", min_delay=77)
    assert pauses[-1] == 77


async def run(q: WorkQueue[str], reconcile, until: asyncio.Event, workers: int = 1) -> None:
    task = asyncio.ensure_future(run_workers(q, reconcile, workers=workers))
    async with asyncio.timeout(120):
        await until.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_failed_key_is_retried_and_does_not_end_the_work_on_others(caplog) -> None:
    q, finished = queue(), asyncio.Event()
    failures: dict[str, list[Exception]] = {
        "bug": [RuntimeError("oops")],
        "api": [ApiError(500, "broken"), ApiError(409, "conflict")],
    }
    reconciled: set[str] = set()

    async def reconcile(key: str) -> None:
        if failures.get(key):
            raise failures[key].pop(0)
        reconciled.add(key)
        if reconciled == {"bug", "api", "good"}:
            finished.set()

    for key in ("bug", "api", "good"):
        q.add(key)
    caplog.set_level("INFO")
    await run(q, reconcile, finished)
    text = caplog.text
    assert "things bug" in text
    assert "things api: broken" in text
    assert "conflict" not in text, "a conflict is nobody's fault"
    assert text.count("done after all") == 2


async def test_workers_run_concurrently_and_a_key_is_requeued_on_request() -> None:
    q, finished = queue(), asyncio.Event()
    inside, max_inside, again_count = 0, 0, 0

    async def reconcile(key: str) -> float | None:
        nonlocal inside, max_inside, again_count
        inside += 1
        max_inside = max(max_inside, inside)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        inside -= 1
        again_count += key == "again"
        if again_count == 2:
            finished.set()
        return 0.0 if key == "again" else None

    for key in ("a", "b", "c", "again"):
        q.add(key)
    await run(q, reconcile, finished, workers=3)
    assert max_inside == 3
