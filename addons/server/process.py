"""Process settings of a service: core dumps, garbage collection, and a faster lookup of mitmproxy's hooks."""

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from typing import Any, Final

from mitmproxy.addonmanager import AddonManager, safecall, traverse
from mitmproxy.exceptions import AddonHalt
from mitmproxy.hooks import Hook

from addons.net.mitmproxy_private import replace_methods

_PR_SET_DUMPABLE: Final = 4
"""prctl(2). RLIMIT_CORE alone does not hold where core_pattern is a pipe (core(5))."""
YOUNG_THRESHOLD: Final = 5_000
"""Number of new objects until a collection of the youngest generation. Requests and connections leave no garbage unless
they fail, so a collection is rare and takes some milliseconds."""


def harden() -> None:
    """Disable core dumps, which would contain credentials, and the log of TLS keys."""
    # Some OpenSSL bindings write TLS keys to the file in this variable.
    os.environ.pop("SSLKEYLOGFILE", None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class FrozenHeap:
    """Addon that excludes objects from the start from garbage collection, which would block the loop for 50 ms."""

    def __init__(self) -> None:
        self._thresholds = gc.get_threshold()

    def running(self) -> None:
        gc.freeze()
        gc.set_threshold(YOUNG_THRESHOLD, *self._thresholds[1:])

    def done(self) -> None:
        gc.set_threshold(*self._thresholds)
        gc.unfreeze()


class HookIndex:
    """Index of the addons that have a hook.

    mitmproxy searches all addons for each hook. That costs a connection more than all of our own work at its start and
    end. The index is cleared when mitmproxy adds or removes an addon with `register` or `remove`.
    """

    def __init__(self, addons: AddonManager) -> None:
        self._addons = addons
        self._addons_by_hook: dict[str, tuple[Any, ...]] = {}
        replace_methods(
            addons,
            register=self._invalidating(addons.register),
            remove=self._invalidating(addons.remove),
            trigger_event=self.trigger_event,
        )

    async def trigger_event(self, event: Hook) -> None:
        """Run a hook in the addons that have it, like mitmproxy's own method."""
        for addon in self._addons_with(event.name):
            try:
                with safecall():
                    await self._addons.invoke_addon(addon, event)
            except AddonHalt:
                return

    def has_hook(self, name: str) -> bool:
        """Return True if an addon has the hook of this name."""
        return bool(self._addons_with(name))

    def _addons_with(self, name: str) -> tuple[Any, ...]:
        addons = self._addons_by_hook.get(name)
        if addons is None:
            addons = self._addons_by_hook[name] = self._find_addons(name)
        return addons

    def _find_addons(self, name: str) -> tuple[Any, ...]:
        """Return the addons of the chain, in its order, that have the hook or contain an addon with it."""
        return tuple(addon for addon in self._addons.chain if any(hasattr(inner, name) for inner in traverse([addon])))

    def _invalidating(self, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def change_and_clear(addon: Any) -> Any:
            self._addons_by_hook.clear()
            return change(addon)

        return change_and_clear
