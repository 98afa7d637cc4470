"""Event loop in a separate thread, for servers in tests that block."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

Call = Callable[[Callable[[], object]], None]
"""Runs a function on the event loop and returns when it is done."""


@contextmanager
def background[T](server: AbstractAsyncContextManager[T]) -> Iterator[tuple[T, Call]]:
    """Run a server in a thread: `with background(relay.serving()) as (relay, call): call(relay.freeze)`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(function: Callable[[], object]) -> None:
        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), loop).result()

    try:
        entered = asyncio.run_coroutine_threadsafe(_enter(server), loop).result()
        try:
            yield entered, call
        finally:
            asyncio.run_coroutine_threadsafe(_exit(server), loop).result()
    finally:
        # Cancel tasks that would outlive the loop.
        asyncio.run_coroutine_threadsafe(_cancel_tasks(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _enter[T](server: AbstractAsyncContextManager[T]) -> T:
    return await server.__aenter__()


async def _exit(server: AbstractAsyncContextManager[object]) -> None:
    await server.__aexit__(None, None, None)
