"""The garbage collector in a service: it need not look at what was made at the start, nor every 2,000 objects."""

import gc
from typing import Final

YOUNG: Final = 5_000
"""Objects, beyond those gone by themselves, until the young ones are looked at. Requests and connections leave none,
so this is for their failures: rarely, and for some milliseconds."""


class Heap:
    """Between `running` and `done`; a full collection would else stop the event loop for 50 ms."""

    def __init__(self) -> None:
        self._before = gc.get_threshold()

    def running(self) -> None:
        gc.freeze()
        gc.set_threshold(YOUNG, *self._before[1:])

    def done(self) -> None:
        gc.set_threshold(*self._before)
        gc.unfreeze()
