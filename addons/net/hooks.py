"""Hooks of mitmproxy's addons, run in the same way as mitmproxy runs them."""

from mitmproxy import ctx
from mitmproxy.flow import Flow
from mitmproxy.proxy.commands import StartHook
from mitmproxy.utils import asyncio_utils


async def run_hook(hook: StartHook) -> None:
    """Run `hook` in all addons that have it. If a user intercepts its flow, wait until the flow is resumed."""
    await ctx.master.addons.handle_lifecycle(hook)
    (argument,) = hook.args()
    if isinstance(argument, Flow):
        await argument.wait_for_resume()


def schedule_hook(hook: StartHook) -> None:
    """Run `hook` in a task of its own."""
    asyncio_utils.create_task(run_hook(hook), name=f"connector hook {hook.name}", keep_ref=True)
