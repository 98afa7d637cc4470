"""A mitmproxy script: SIGUSR1 begins to profile the event loop's thread, the next one writes to $BENCH_PROFILE.

That is a file of cProfile's, put in place whole.
"""

import asyncio
import cProfile
import os
import signal
from pathlib import Path


class Profiled:
    """From `running` on."""

    def __init__(self) -> None:
        self.file = Path(os.environ["BENCH_PROFILE"])
        self.profile: cProfile.Profile | None = None

    def running(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._turn)

    def _turn(self) -> None:
        if self.profile is None:
            self.profile = cProfile.Profile()
            self.profile.enable()
            return
        self.profile.disable()
        draft = self.file.with_suffix(".draft")
        self.profile.dump_stats(draft)
        draft.rename(self.file)
        self.profile = None


addons = [Profiled()]
