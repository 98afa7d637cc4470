"""An event loop in a thread of its own, for servers of tests that wait in the ordinary way."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

Call = Callable[[Callable[[], object]], None]
"""Runs a function on that loop, and returns when it has."""


@contextmanager
def background[T](served: AbstractAsyncContextManager[T]) -> Iterator[tuple[T, Call]]:
    """`with background(relay.serving()) as (relay, call): call(relay.freeze)`"""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(function: Callable[[], object]) -> None:
        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), loop).result()

    try:
        entered = asyncio.run_coroutine_threadsafe(_enter(served), loop).result()
        try:
            yield entered, call
        finally:
            asyncio.run_coroutine_threadsafe(_exit(served), loop).result()
    finally:
        # What still runs would outlive its loop.
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def _enter[T](served: AbstractAsyncContextManager[T]) -> T:
    return await served.__aenter__()


async def _exit(served: AbstractAsyncContextManager[object]) -> None:
    await served.__aexit__(None, None, None)
