"""Entry point of mitmproxy, which loads it by path and finds the addons in it."""

from tests.fakes.proxy import Proxy


async def test_all_addons_are_there_under_their_names(proxy: Proxy) -> None:
    for name in ("lifecycle", "connections", "frozenheap"):
        assert proxy.master.addons.get(name) is not None
