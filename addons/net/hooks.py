"""What mitmproxy's addons are told, as by mitmproxy itself."""

from mitmproxy import ctx
from mitmproxy.flow import Flow
from mitmproxy.proxy.commands import StartHook
from mitmproxy.utils import asyncio_utils


async def tell(hook: StartHook) -> None:
    """Run the hook of all addons that have it; of a flow, wait as long as a person holds it."""
    await ctx.master.addons.handle_lifecycle(hook)
    (about,) = hook.args()
    if isinstance(about, Flow):
        await about.wait_for_resume()


def tell_later(hook: StartHook) -> None:
    """The same, for whoever does not wait for it."""
    asyncio_utils.create_task(tell(hook), name=f"connector hook {hook.name}", keep_ref=True)
