"""What mitmproxy's addons are told, as by mitmproxy itself."""

from mitmproxy import ctx
from mitmproxy.flow import Flow
from mitmproxy.proxy.commands import StartHook
from mitmproxy.utils import asyncio_utils


async def run_hook(hook: StartHook) -> None:
    """Run the hook of all addons that have it; of a flow, wait as long as a person holds it."""
    await ctx.master.addons.handle_lifecycle(hook)
    (argument,) = hook.args()
    if isinstance(argument, Flow):
        await argument.wait_for_resume()


def schedule_hook(hook: StartHook) -> None:
    """The same, for whoever does not wait for it."""
    asyncio_utils.create_task(run_hook(hook), name=f"connector hook {hook.name}", keep_ref=True)
