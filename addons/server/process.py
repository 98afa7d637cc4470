"""What is changed for a service: of the process, of the garbage collector, and of mitmproxy while nobody watches."""

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from typing import Any, Final

from mitmproxy.addonmanager import AddonManager, safecall, traverse
from mitmproxy.exceptions import AddonHalt
from mitmproxy.hooks import Hook

_PR_SET_DUMPABLE: Final = 4
"""prctl(2). RLIMIT_CORE alone does not hold where core_pattern is a pipe (core(5))."""
YOUNG_THRESHOLD: Final = 5_000
"""Objects, beyond those gone by themselves, until the young ones are looked at. Requests and connections leave none,
so this is for their failures: rarely, and for some milliseconds."""


def harden() -> None:
    """Leave no core dump with credentials in it and no log of TLS keys, as far as the kernel has such things."""
    # Honoured by OpenSSL bindings that we do not make ourselves; nobody may read what goes to a target.
    os.environ.pop("SSLKEYLOGFILE", None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class FrozenHeap:
    """What was made at the start is not collected between `running` and `done`: that would stop the loop for 50 ms."""

    def __init__(self) -> None:
        self._thresholds = gc.get_threshold()

    def running(self) -> None:
        gc.freeze()
        gc.set_threshold(YOUNG_THRESHOLD, *self._thresholds[1:])

    def done(self) -> None:
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()


class HookIndex:
    """Which addons have a hook. mitmproxy looks for it at all of them each time, which costs a connection more than
    all of ours that is done for its begin and its end.

    Worked out anew after an addon has come or gone: mitmproxy tells by `register` and `remove`.
    """

    def __init__(self, addons: AddonManager) -> None:
        self._addons = addons
        self._addons_by_hook: dict[str, tuple[Any, ...]] = {}
        # mitmproxy has no other way to replace them.
        addons.register = self._invalidating(addons.register)  # type: ignore[method-assign]  # mitmproxy has no hook for it
        addons.remove = self._invalidating(addons.remove)  # type: ignore[method-assign]  # mitmproxy has no hook for it
        addons.trigger_event = self.trigger_event  # type: ignore[method-assign]  # mitmproxy has no hook for it

    async def trigger_event(self, event: Hook) -> None:
        """As mitmproxy does it, for those alone."""
        for addon in self._addons_with(event.name):
            try:
                with safecall():
                    await self._addons.invoke_addon(addon, event)
            except AddonHalt:
                return

    def has_hook(self, name: str) -> bool:
        """Whether somebody has the hook of this name."""
        return bool(self._addons_with(name))

    def _addons_with(self, name: str) -> tuple[Any, ...]:
        addons = self._addons_by_hook.get(name)
        if addons is None:
            addons = self._addons_by_hook[name] = self._find_addons(name)
        return addons

    def _find_addons(self, name: str) -> tuple[Any, ...]:
        """Of the chain, in its order: one that has it, or that has an addon which does."""
        return tuple(each for each in self._addons.chain if any(hasattr(inner, name) for inner in traverse([each])))

    def _invalidating(self, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def change_and_clear(addon: Any) -> Any:
            self._addons_by_hook.clear()
            return change(addon)

        return change_and_clear
