"""Hooks of mitmproxy's addons, run in the same way as mitmproxy runs them. An addon that fails refuses the request."""

from mitmproxy import ctx
from mitmproxy.addonmanager import AddonManager, safecall
from mitmproxy.exceptions import AddonHalt
from mitmproxy.flow import Flow
from mitmproxy.hooks import UpdateHook
from mitmproxy.http import Response
from mitmproxy.proxy.commands import StartHook
from mitmproxy.utils import asyncio_utils

from addons.net.mitmproxy_private import HttpRequestHeadersHook, HttpRequestHook
from connector_store.domain.decision.denial import failed_addon


async def run_hook(hook: StartHook) -> None:
    """Run `hook` in all addons that have it. If a user intercepts its flow, wait until the flow is resumed."""
    if isinstance(hook, HttpRequestHeadersHook | HttpRequestHook):
        await _run_request_hook(ctx.master.addons, hook)
    else:
        await ctx.master.addons.handle_lifecycle(hook)
    (argument,) = hook.args()
    if isinstance(argument, Flow):
        await argument.wait_for_resume()


def schedule_hook(hook: StartHook) -> None:
    """Run `hook` in a task of its own."""
    asyncio_utils.create_task(run_hook(hook), name=f"connector hook {hook.name}", keep_ref=True)


async def _run_request_hook(addons: AddonManager, hook: HttpRequestHeadersHook | HttpRequestHook) -> None:
    """Run `hook` like `AddonManager.handle_lifecycle`, and set a response if an addon raises an exception.

    The addon may be the one that refuses such requests.
    """
    for addon in addons.chain:
        has_failed = True
        try:
            with safecall():
                await addons.invoke_addon(addon, hook)
                has_failed = False
        except AddonHalt:
            break
        if has_failed and hook.flow.response is None:
            deny = failed_addon()
            hook.flow.response = Response.make(deny.status, deny.body, {"Content-Type": "application/json"})
    await addons.trigger_event(UpdateHook([hook.flow]))
