"""The admin address, over a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Iterator

import aiohttp
import pytest

from connector_store.admin import AdminServer, parse_listen_address
from connector_store.domain.base.errors import ParseError
from lab.ports import Port


class Served:
    def __init__(self) -> None:
        self.problem: str | None = "Connectors are not listed yet"
        self.pieces: Iterable[bytes] = (b"connector_x 1\n",)
        self.server = AdminServer(
            component="proxy", not_ready_reason=lambda: self.problem, metrics=lambda: iter(self.pieces)
        )
        self.base = ""

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.base + path) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    host, port = await served.server.start("127.0.0.1", 0)
    served.base = f"http://{host}:{port}"
    yield served
    await served.server.stop()


async def test_is_alive_before_it_is_ready_and_says_what_is_missing(served: Served) -> None:
    assert await served.get("/healthz") == (200, "ok\n")
    assert await served.get("/readyz") == (503, "Connectors are not listed yet\n")
    served.problem = None
    assert await served.get("/readyz") == (200, "ok\n")


async def test_serves_metrics_those_of_the_process_too_and_nothing_else(served: Served) -> None:
    status, text = await served.get("/metrics")
    assert (status, text.partition("\n")[0]) == (200, "connector_x 1")
    assert 'connector_build_info{component="proxy"' in text
    assert "process_resident_memory_bytes" in text
    assert (await served.get("/"))[0] == 404


async def test_the_event_loop_serves_others_between_two_pieces_of_a_scrape(served: Served) -> None:
    turns: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(3):
            asyncio.get_running_loop().call_soon(turns.append, number)
            yield b"connector_x %d\n" % len(turns)

    served.pieces = pieces()
    _, text = await served.get("/metrics")
    assert text.startswith("connector_x 0\nconnector_x 1\nconnector_x 2\n")


async def test_a_port_in_use_is_an_error_and_stopping_twice_is_not(served: Served) -> None:
    port = int(served.base.rpartition(":")[2])
    other = AdminServer(component="proxy", not_ready_reason=lambda: None, metrics=lambda: ())
    with pytest.raises(OSError, match="ddress already in use"):
        await other.start("127.0.0.1", port)
    await other.stop()


async def test_a_stopped_server_does_not_listen() -> None:
    served = Served()
    host, port = await served.server.start("127.0.0.1", Port().number)
    await served.server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=120)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("127.0.0.1:9091", ("127.0.0.1", 9091), id="an address"),
        pytest.param("localhost:0", ("localhost", 0), id="a name, and a port to be chosen"),
        pytest.param("[::]:9091", ("::", 9091), id="IPv6 in brackets"),
    ],
)
def test_listen_addresses_are_parsed(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen_address(text) == expected


@pytest.mark.parametrize("text", ["", "9091", ":9091", "host:", "host:65536", "host:x", "::1:9091", "host:9_1"])
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="HOST:PORT"):
        parse_listen_address(text)
