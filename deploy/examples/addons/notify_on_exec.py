"""Post a line to a chat for each exec and attach, also for those that the proxy refuses.

connectorctl proxy -- -s deploy/examples/addons/notify_on_exec.py --set notify_url=http://127.0.0.1:9000/hook
"""

import asyncio
import json
import logging
import urllib.request

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader

SESSIONS = {"exec", "attach"}
TIMEOUT = 5.0
"""Seconds for the chat to answer."""
_tasks: set[asyncio.Task[None]] = set()


def load(loader: Loader) -> None:
    loader.add_option("notify_url", str, "", "URL that gets a line for each exec.")


def responseheaders(flow: http.HTTPFlow) -> None:
    """Start the notification when the target accepts the session. The session does not wait for it."""
    _notify(flow)


def response(flow: http.HTTPFlow) -> None:
    """A refused request has no hook `responseheaders`."""
    if flow.metadata.get("reason"):
        _notify(flow)


def _notify(flow: http.HTTPFlow) -> None:
    if flow.metadata.get("subresource") in SESSIONS:
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(post, ctx.options.notify_url, flow.comment))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def post(url: str, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps({"text": text}).encode(), headers)  # noqa: S310 - of the operator
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()  # noqa: S310 - of the operator
    except OSError as error:
        logging.warning("no notification was sent: %s", error)
