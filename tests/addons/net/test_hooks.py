"""Addons hear of what happens, and of a flow that a person holds nobody else does before it goes on."""

import asyncio

from mitmproxy.connection import Client
from mitmproxy.http import HTTPFlow
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.proxy.server_hooks import ClientConnectedHook
from mitmproxy.test import taddons
from mitmproxy.test.tflow import tclient_conn, tflow

from addons.net.hooks import run_hook, schedule_hook
from tests.fakes.waiting import until


class Told:
    """An addon that holds each flow."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    def client_connected(self, client: Client) -> None:
        self.clients.append(client)

    def request(self, flow: HTTPFlow) -> None:
        flow.intercept()


async def test_who_is_told_of_a_flow_may_hold_it() -> None:
    with taddons.context(Told()):
        flow = tflow()
        telling = asyncio.ensure_future(run_hook(HttpRequestHook(flow)))
        await until(lambda: flow.intercepted)
        assert not telling.done()
        flow.resume()
        await telling


async def test_nobody_waits_for_what_is_told_later() -> None:
    told = Told()
    with taddons.context(told):
        client = tclient_conn()
        schedule_hook(ClientConnectedHook(client))
        await until(lambda: told.clients == [client])
