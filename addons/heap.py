"""The garbage collector in a service: it need not look at what was made at the start, nor every 2,000 objects."""

import gc
from typing import Final

YOUNG: Final = 20_000
"""Objects that are made before the young ones are looked at, some 200 requests; that look takes about a millisecond."""


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
