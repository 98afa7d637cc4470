"""A mitmproxy script: it counts the calls of our functions. SIGUSR1 appends the counts to $BENCH_TRIPS and resets them.

Each signal appends one line of JSON: {file: calls}.
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).parents[2]
PRODUCT_FOLDERS = tuple(f"{ROOT / package}{os.sep}" for package in ("addons", "connector_store"))
TOOL = sys.monitoring.PROFILER_ID


class CallCounter:
    """Counts calls between the hooks `running` and `done`."""

    def __init__(self) -> None:
        self.file = Path(os.environ["BENCH_TRIPS"])
        self.calls: Counter[str] = Counter()

    def running(self) -> None:
        sys.monitoring.use_tool_id(TOOL, "trips")
        sys.monitoring.register_callback(TOOL, sys.monitoring.events.PY_START, self._on_function_start)
        sys.monitoring.set_events(TOOL, sys.monitoring.events.PY_START)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._write_counts)

    def done(self) -> None:
        sys.monitoring.free_tool_id(TOOL)

    def _on_function_start(self, code: CodeType, _: int) -> object:
        if not code.co_filename.startswith(PRODUCT_FOLDERS):
            return sys.monitoring.DISABLE
        self.calls[code.co_filename.removeprefix(f"{ROOT}{os.sep}")] += 1
        return None

    def _write_counts(self) -> None:
        calls, self.calls = self.calls, Counter()
        with self.file.open("a") as file:
            file.write(json.dumps(calls) + "\n")


addons = [CallCounter()]
