"""Hooks run in all addons, and wait while a user intercepts their flow."""

import asyncio

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.proxy.server_hooks import ClientConnectedHook
from mitmproxy.test import taddons
from mitmproxy.test.tflow import tclient_conn, tflow

from addons.net.hooks import run_hook, schedule_hook
from tests.fakes.waiting import until


class InterceptingAddon:
    """Addon that intercepts each flow."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    def client_connected(self, client: Client) -> None:
        self.clients.append(client)

    def request(self, flow: HTTPFlow) -> None:
        flow.intercept()


async def test_an_addon_can_intercept_a_flow() -> None:
    with taddons.context(InterceptingAddon()):
        flow = tflow()
        running = asyncio.ensure_future(run_hook(HttpRequestHook(flow)))
        await until(lambda: flow.intercepted)
        assert not running.done()
        flow.resume()
        await running


async def test_a_scheduled_hook_does_not_block_the_caller() -> None:
    addon = InterceptingAddon()
    with taddons.context(addon):
        client = tclient_conn()
        schedule_hook(ClientConnectedHook(client))
        await until(lambda: addon.clients == [client])
