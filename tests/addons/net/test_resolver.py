"""Names of targets are resolved off the event loop; what fails has words."""

import asyncio
import socket
import threading

import pytest

from addons.net import resolver
from addons.net.resolver import Resolved, Resolver


def answer(*ips: str) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 6443)) for ip in ips]


async def resolve() -> Resolved:
    found = Resolver()
    try:
        return await found.resolve("a.example", 6443)
    finally:
        found.close()


async def test_addresses_keep_their_order_and_come_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer("10.0.0.2", "10.0.0.1", "10.0.0.2"))
    assert (await resolve()).addresses == ("10.0.0.2", "10.0.0.1")


async def test_a_name_that_is_not_there_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert await resolve() == Resolved((), "its name cannot be resolved: Name or service not known")


async def test_many_who_ask_for_one_name_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = [], threading.Event()

    def slow(*arguments: object, **_: object) -> object:
        asked.append(arguments)
        go_on.wait(30)
        return answer("10.0.0.1")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    found = Resolver()
    tasks = [asyncio.ensure_future(found.resolve("a.example", 6443)) for _ in range(resolver.THREADS + 1)]
    await asyncio.sleep(0)
    go_on.set()
    answers = await asyncio.gather(*tasks)
    found.close()
    assert len(asked) == 1
    assert set(answers) == {Resolved(("10.0.0.1",))}
