"""The collector leaves alone what was there at the start, until the end."""

import gc

from addons.server.heap import YOUNG, Heap


def test_what_was_made_at_the_start_is_not_collected_while_it_runs() -> None:
    before, heap = gc.get_threshold(), Heap()
    heap.running()
    assert (gc.get_freeze_count() > 10_000, gc.get_threshold()[0]) == (True, YOUNG)
    heap.done()
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)
