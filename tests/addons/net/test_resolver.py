"""Names of targets are resolved off the event loop; what fails has words."""

import asyncio
import socket
import threading

import pytest

from addons.access.questions import Resolve
from addons.net import resolver
from addons.net.resolver import Resolver
from connector_store.domain.models import Address

ADDRESS = Address(host="a.example", port=6443)


def answer(*ips: str) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 6443)) for ip in ips]


async def resolve() -> Resolve:
    question = Resolve(ADDRESS)
    found = Resolver()
    await found.connector_resolve(question)
    found.done()
    return question


async def test_addresses_keep_their_order_and_come_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer("10.0.0.2", "10.0.0.1", "10.0.0.2"))
    assert (await resolve()).found == ("10.0.0.2", "10.0.0.1")


async def test_a_name_that_is_not_there_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    question = await resolve()
    assert question.found == ()
    assert question.problem == "its name cannot be resolved: Name or service not known"


async def test_whatever_else_fails_leaves_the_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: 1)
    question = await resolve()
    assert (question.found, question.problem) == ((), "its name was not resolved")


async def test_many_who_ask_for_one_name_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = [], threading.Event()

    def slow(*arguments: object, **_: object) -> object:
        asked.append(arguments)
        go_on.wait(30)
        return answer("10.0.0.1")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    found = Resolver()
    questions = [Resolve(ADDRESS) for _ in range(resolver.THREADS + 1)]
    tasks = [asyncio.ensure_future(found.connector_resolve(each)) for each in questions]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*tasks)
    found.done()
    assert len(asked) == 1
    assert {each.found for each in questions} == {("10.0.0.1",)}
