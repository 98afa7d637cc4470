"""Snapshots for the stream of changes."""

import json

from hypothesis import given
from hypothesis import strategies as st

from addons.sessions.snapshots import Snapshot, Snapshots, changes
from tests.fakes.virtual_time import run_in_virtual_time

SNAPSHOTS = st.dictionaries(st.text(max_size=3), st.sampled_from(["1", '{"a":2}']), max_size=5)


@given(SNAPSHOTS, SNAPSHOTS)
def test_a_subscriber_that_applies_the_changes_has_the_new_snapshot(old: Snapshot, new: Snapshot) -> None:
    objects = {key: json.loads(value) for key, value in old.items()}
    for line in changes(old, new):
        assert line.endswith("\n")
        assert line.count("\n") == 1
        event = json.loads(line)
        if "gone" in event:
            del objects[event["gone"]]
        else:
            objects[event["put"]] = event["object"]
    assert objects == {key: json.loads(value) for key, value in new.items()}


def test_snapshots_are_built_only_while_there_are_subscribers() -> None:
    built = 0

    async def build() -> Snapshot:
        nonlocal built
        built += 1
        return {"a": str(built)}

    async def read() -> None:
        snapshots = Snapshots(build)
        snapshots.subscribe()
        snapshots.subscribe()
        assert await snapshots.next(0) == (1, {"a": "1"})
        assert await snapshots.next(1) == (2, {"a": "2"})
        snapshots.unsubscribe()
        snapshots.unsubscribe()
        assert (built, snapshots._task, snapshots._latest) == (2, None, {})
        snapshots.subscribe()
        assert await snapshots.next(0) == (1, {"a": "3"})
        snapshots.unsubscribe()

    run_in_virtual_time(read())
