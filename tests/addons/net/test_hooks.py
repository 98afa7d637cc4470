"""Hooks run in all addons, and wait while a user intercepts their flow."""

import asyncio

import pytest
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt
from mitmproxy.http import HTTPFlow, Response
from mitmproxy.proxy.layers.http._hooks import HttpRequestHeadersHook, HttpRequestHook
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


class RaisingAddon:
    """Addon that raises an exception for each flow."""

    def requestheaders(self, flow: HTTPFlow) -> None:
        raise ValueError("no")

    async def request(self, flow: HTTPFlow) -> None:
        raise ValueError("no")


class RespondingAddon:
    """Addon that responds to each flow in place of the target, and then keeps it from later addons."""

    def request(self, flow: HTTPFlow) -> None:
        flow.response = Response.make(403)
        raise AddonHalt


@pytest.mark.parametrize("hook", [HttpRequestHeadersHook, HttpRequestHook])
async def test_an_addon_that_raises_refuses_the_request(
    hook: type[HttpRequestHeadersHook | HttpRequestHook], caplog: pytest.LogCaptureFixture
) -> None:
    with taddons.context(RaisingAddon()):
        flow = tflow()
        await run_hook(hook(flow))
    assert flow.response is not None
    assert (flow.response.status_code, flow.response.json()["reason"]) == (500, "InternalError")
    assert "Addon error: no" in caplog.text


@pytest.mark.parametrize("addons", [(RespondingAddon(), RaisingAddon()), (RaisingAddon(), RespondingAddon())])
async def test_the_response_of_an_addon_stays(addons: tuple[object, ...]) -> None:
    with taddons.context(*addons):
        flow = tflow()
        await run_hook(HttpRequestHook(flow))
    assert flow.response is not None
    assert flow.response.status_code == 403


async def test_a_scheduled_hook_does_not_block_the_caller() -> None:
    addon = InterceptingAddon()
    with taddons.context(addon):
        client = tclient_conn()
        schedule_hook(ClientConnectedHook(client))
        await until(lambda: addon.clients == [client])
