"""Waits of tests, and the end of their servers."""

import asyncio
import gc
import socket
import warnings

import pytest

from tests.fakes import waiting
from tests.fakes.api_server import FakeApiServer
from tests.fakes.waiting import close_server, until


async def test_a_condition_that_raises_is_polled_again() -> None:
    errors = iter([ValueError, KeyError, None])

    def condition() -> bool:
        error = next(errors)
        if error:
            raise error
        return True

    await until(condition)
    assert next(errors, "the end") == "the end"


async def test_the_error_at_the_deadline_has_the_last_error_as_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)

    def condition() -> bool:
        raise ValueError("no connection")

    with pytest.raises(AssertionError, match="not within 0 s: an answer") as caught:
        await until(condition, "an answer")
    assert str(caught.value.__cause__) == "no connection"


async def test_an_assertion_of_a_condition_fails_at_once() -> None:
    results = iter([False, True])

    def condition() -> bool:
        assert next(results), "the condition's own assertion"
        return True

    with pytest.raises(AssertionError, match="the condition's own assertion"):
        await until(condition)


async def test_a_server_that_has_just_accepted_a_connection_leaves_no_socket_open() -> None:
    gc.collect()  # what earlier tests left
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    tasks = asyncio.all_tasks()
    with socket.create_connection(server.sockets[0].getsockname()), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        # The task of asyncio that gives the connection to the server has not run yet.
        while asyncio.all_tasks() == tasks:  # noqa: ASYNC110 - the event loop does not notify about it
            await asyncio.sleep(0)
        await close_server(server)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def test_an_api_server_that_has_just_accepted_a_connection_leaves_none_open() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        async with FakeApiServer().serving() as server:
            tasks = asyncio.all_tasks()
            client = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
            while asyncio.all_tasks() == tasks:  # noqa: ASYNC110 - the event loop does not notify about it
                await asyncio.sleep(0)
        client.close()
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
