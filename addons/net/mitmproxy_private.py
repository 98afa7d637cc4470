"""Names of mitmproxy that have no promise of stability. No other file uses such names.

`pyproject.toml` allows one minor version of mitmproxy. Decision 17 lists the names, and a test checks each of them.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mitmproxy import optmanager
from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import Hook
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)
from mitmproxy.proxy.mode_servers import AsyncioServerInstance

__all__ = [
    "HttpErrorHook", "HttpRequestHeadersHook", "HttpRequestHook", "HttpResponseHeadersHook", "HttpResponseHook",
    "deferred_values", "get_servers", "is_text_option", "is_unset", "parse_value", "replace_methods", "set_servers",
]  # fmt: skip


def deferred_values(options: optmanager.OptManager) -> dict[str, Sequence[str]]:
    """Return the texts of options that were set before they were declared, and that are not parsed yet."""
    return {
        name: value.val for name, value in options.deferred.items() if isinstance(value, optmanager._UnconvertedStrings)
    }


def parse_value(options: optmanager.OptManager, name: str, texts: Sequence[str]) -> object:
    """Parse the texts of an option. Raises OptionsError."""
    return options._parse_setval(options._options[name], list(texts))


def is_text_option(options: optmanager.OptManager, name: str) -> bool:
    return options._options[name].typespec is str


def is_unset(options: optmanager.OptManager, name: str) -> bool:
    """Return True if the option is declared and has its default value."""
    return name in options and options._options[name].value is optmanager.unset


def replace_methods(
    addons: AddonManager,
    *,
    register: Callable[[Any], Any],
    remove: Callable[[Any], Any],
    trigger_event: Callable[[Hook], Awaitable[None]],
) -> None:
    """Replace methods of the addon manager, for which mitmproxy has no other way."""
    addons.register = register  # type: ignore[method-assign]  # mitmproxy has no hook for it
    addons.remove = remove  # type: ignore[method-assign]  # mitmproxy has no hook for it
    addons.trigger_event = trigger_event  # type: ignore[method-assign, assignment]  # mitmproxy has no hook for it


def get_servers(instance: AsyncioServerInstance[Any]) -> list[Any]:
    """Return the asyncio servers of a server instance."""
    return instance._servers


def set_servers(instance: AsyncioServerInstance[Any], servers: list[Any]) -> None:
    instance._servers = servers
