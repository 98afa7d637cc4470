"""The option connector_flows: whether requests are shown as flows of mitmproxy."""

import logging
from typing import Final

from mitmproxy import ctx

logger = logging.getLogger(__name__)

_FOR_PEOPLE: Final = frozenset({"WebMaster", "ConsoleMaster"})


def shows_flows(flows: str) -> bool:
    """Return True if requests are shown as flows. With `auto`, a UI, saved flows or another script decide.

    The result and its reason are logged.
    """
    watched, reason = (flows == "on", f"connector_flows is {flows}") if flows != "auto" else _detect()
    logger.info("requests are %s as flows of mitmproxy: %s", "shown" if watched else "not shown", reason)
    return watched


def _detect() -> tuple[bool, str]:
    master, options = ctx.master, ctx.options
    if type(master).__name__ in _FOR_PEOPLE:
        return True, "a user interface runs"
    for name in ("save_stream_file", "hardump"):
        if name in options and getattr(options, name):
            return True, f"{name} is set"
    if len(options.scripts) > 1:
        return True, "another script is loaded"
    return False, "no user interface or addon reads flows"


def add_content_view() -> None:
    """Add the view of Kubernetes objects to mitmproxy."""
    # Imported only if needed, because mitmproxy's views use several MB of memory.
    from mitmproxy import contentviews

    from addons.server.kubernetes_view import KubernetesView

    contentviews.add(KubernetesView)
