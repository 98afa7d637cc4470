"""The entry: mitmproxy loads it by path, and finds the addons in it."""

from tests.fakes.proxy import Proxy


async def test_all_addons_are_there_under_their_names(proxy: Proxy) -> None:
    for name in ("lifecycle", "connections", "heap"):
        assert proxy.master.addons.get(name) is not None
