"""One application at one address: start, an address in use, and stop."""

import asyncio
import socket

import pytest
from aiohttp import ClientSession, web

from connector_store.http_listener import HttpListener
from lab.ports import Port


def make_app() -> web.Application:
    async def respond(request: web.Request) -> web.Response:
        return web.Response(text="here\n")

    app = web.Application()
    app.router.add_get("/", respond)
    return app


async def test_it_serves_until_it_is_stopped() -> None:
    listener = HttpListener()
    host, port = await listener.start(make_app(), "127.0.0.1", Port().number)
    async with ClientSession() as session, session.get(f"http://{host}:{port}/") as response:
        assert await response.text() == "here\n"
    await listener.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, port)


async def test_an_address_in_use_is_an_error_and_a_stop_without_a_start_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listener = HttpListener()
        with pytest.raises(OSError, match="ddress already in use"):
            await listener.start(make_app(), "127.0.0.1", taken.getsockname()[1])
        await listener.stop()
