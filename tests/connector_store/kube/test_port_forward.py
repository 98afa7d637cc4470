"""Port-forward against a WebSocket API server: channels, errors, and each way in which it ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st

from connector_store.kube.client import KubeClient
from connector_store.kube.configuration import Configuration
from connector_store.kube.errors import ApiError
from connector_store.kube.port_forward import PROTOCOL, ForwardedStream, forward_port

PORT: Final = 9092
PORT_BYTES: Final = PORT.to_bytes(2, "little")
DATA: Final = b"\x00"
ERROR: Final = b"\x01"
BROKEN: Final = "the port-forward broke off; try again"

Behaviour = Callable[[web.Request, web.WebSocketResponse], Awaitable[object]]


async def end(request: web.Request, websocket: web.WebSocketResponse) -> None:
    await websocket.close()


async def _token() -> str:
    return "Bearer t"


class FakeKubelet:
    """API server that answers a port-forward with `messages`, and then does what `behaviour` does."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.behaviour: Behaviour = end
        self.status: int | None = None
        self.received: list[bytes] = []
        self.requests: list[web.Request] = []
        self.runner: web.AppRunner | None = None

    @property
    def configuration(self) -> Configuration:
        assert self.runner is not None
        return Configuration(host="http://{}:{}".format(*self.runner.addresses[0][:2]), authorization=_token)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.status is not None:
            return web.Response(status=self.status)
        websocket = web.WebSocketResponse(protocols=[PROTOCOL])
        await websocket.prepare(request)
        for message in self.messages:
            await websocket.send_bytes(message)
        await self.behaviour(request, websocket)
        return websocket


@pytest.fixture
async def kubelet() -> AsyncIterator[FakeKubelet]:
    fake = FakeKubelet()
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/{namespace}/pods/{pod}/portforward", fake.serve)
    fake.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await fake.runner.setup()
    await web.TCPSite(fake.runner, "127.0.0.1", 0).start()
    yield fake
    await fake.runner.cleanup()


@pytest.fixture
async def client(kubelet: FakeKubelet) -> AsyncIterator[KubeClient]:
    async with KubeClient(kubelet.configuration) as kube_client:
        yield kube_client


async def read_all(stream: ForwardedStream) -> list[bytes]:
    pieces = []
    while piece := await stream.read():
        pieces.append(piece)
    assert await stream.read() == b"", "the end stays the end"
    return pieces


async def test_the_request_names_the_pod_the_port_and_the_protocol(client: KubeClient, kubelet: FakeKubelet) -> None:
    async with forward_port(client, "team-a", "web-0", PORT) as stream:
        assert await read_all(stream) == []
    (request,) = kubelet.requests
    assert request.path_qs == "/api/v1/namespaces/team-a/pods/web-0/portforward?ports=9092"
    assert request.headers["Sec-WebSocket-Protocol"] == PROTOCOL
    assert request.headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("messages", "pieces"),
    [
        pytest.param([DATA + PORT_BYTES, ERROR + PORT_BYTES, DATA + b"one", DATA + b"two"], [b"one", b"two"],
                     id="the port of each channel is not data"),
        pytest.param([DATA + PORT_BYTES + b"one"], [b"one"], id="data in the message of the port"),
        pytest.param([DATA + PORT_BYTES, DATA + PORT_BYTES], [PORT_BYTES], id="data that looks like the port"),
        pytest.param([DATA + PORT_BYTES, DATA, DATA + b"one"], [b"one"], id="a message without data is not the end"),
        pytest.param([DATA + PORT_BYTES, ERROR + PORT_BYTES, ERROR, DATA + b"one"], [b"one"], id="an empty error"),
        pytest.param([DATA + PORT_BYTES, b"\x02other", b"\xff", DATA + b"one"], [b"one"], id="another channel"),
        pytest.param([], [], id="an end before the port"),
    ],
)  # fmt: skip
async def test_the_data_of_its_channel_is_read(
    client: KubeClient, kubelet: FakeKubelet, messages: list[bytes], pieces: list[bytes]
) -> None:
    kubelet.messages = messages
    async with forward_port(client, "n", "p", PORT) as stream:
        assert await read_all(stream) == pieces


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        pytest.param([ERROR + PORT_BYTES, ERROR + b"connection refused\n"], "connection refused", id="after the port"),
        pytest.param([ERROR + PORT_BYTES + b"no such pod"], "no such pod", id="with the port"),
        pytest.param([ERROR + PORT_BYTES, ERROR + b"\xff\xfe"], "\ufffd\ufffd", id="bytes that are not UTF-8"),
    ],
)
async def test_an_error_of_the_kubelet_is_raised(
    client: KubeClient, kubelet: FakeKubelet, messages: list[bytes], message: str
) -> None:
    kubelet.messages = messages
    async with forward_port(client, "n", "p", PORT) as stream:
        with pytest.raises(ApiError) as caught:
            await stream.read()
    assert caught.value.message == f"the port-forward failed: {message}"


async def vanish(request: web.Request, websocket: web.WebSocketResponse) -> None:
    assert request.transport is not None
    request.transport.abort()


async def close_connection(request: web.Request, websocket: web.WebSocketResponse) -> None:
    assert request.transport is not None
    request.transport.close()


async def send_reserved_bits(request: web.Request, websocket: web.WebSocketResponse) -> None:
    assert request.transport is not None
    request.transport.write(b"\xff\xff\xff\xff")
    await websocket.receive()


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(vanish, id="the API server resets the connection"),
        pytest.param(close_connection, id="the API server closes the connection without a close frame"),
        pytest.param(lambda _, websocket: websocket.close(code=WSCloseCode.INTERNAL_ERROR), id="close code 1011"),
        pytest.param(lambda _, websocket: websocket.send_str("text"), id="a text message"),
        pytest.param(lambda _, websocket: websocket.send_bytes(b""), id="a message without a channel"),
        pytest.param(send_reserved_bits, id="a frame that is not WebSocket"),
    ],
)
async def test_a_stream_that_breaks_off_is_an_error(
    client: KubeClient, kubelet: FakeKubelet, behaviour: Behaviour
) -> None:
    kubelet.messages, kubelet.behaviour = [DATA + PORT_BYTES + b"half"], behaviour
    async with forward_port(client, "n", "p", PORT) as stream:
        assert await stream.read() == b"half"
        with pytest.raises(ApiError, match=BROKEN):
            await stream.read()


async def test_written_data_has_its_channel_and_no_port(client: KubeClient, kubelet: FakeKubelet) -> None:
    async def echo(_: web.Request, websocket: web.WebSocketResponse) -> None:
        for _number in range(2):
            kubelet.received.append(await websocket.receive_bytes())
        await websocket.close()

    kubelet.behaviour = echo
    async with forward_port(client, "n", "p", PORT) as stream:
        await stream.write(b"GET / HTTP/1.1\r\n")
        await stream.write(b"\x01\r\n")
        assert await read_all(stream) == []
    assert kubelet.received == [b"\x00GET / HTTP/1.1\r\n", b"\x00\x01\r\n"]


async def test_a_write_after_the_end_is_an_error(client: KubeClient, kubelet: FakeKubelet) -> None:
    async with forward_port(client, "n", "p", PORT) as stream:
        assert await read_all(stream) == []
        with pytest.raises(ApiError, match="the port-forward is closed"):
            await stream.write(b"late")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        pytest.param(403, "the API server refused a WebSocket: Forbidden", id="a caller without the right"),
        pytest.param(404, "the API server refused a WebSocket: Not Found", id="a pod that is gone"),
        pytest.param(200, "the API server refused a WebSocket: OK", id="a server without WebSockets"),
    ],
)
async def test_a_refused_handshake_has_its_status(
    client: KubeClient, kubelet: FakeKubelet, status: int, message: str
) -> None:
    kubelet.status = status
    with pytest.raises(ApiError) as caught:
        async with forward_port(client, "n", "p", PORT):
            raise AssertionError
    assert (caught.value.status, caught.value.message) == (status, message)


async def test_an_api_server_that_is_down_is_an_error(client: KubeClient, kubelet: FakeKubelet) -> None:
    assert kubelet.runner is not None
    await kubelet.runner.cleanup()
    with pytest.raises(ApiError) as caught:
        async with forward_port(client, "n", "p", PORT):
            raise AssertionError
    assert caught.value.status == 0


async def test_the_end_of_the_block_closes_the_connection(client: KubeClient, kubelet: FakeKubelet) -> None:
    closed = asyncio.Event()

    async def wait_for_close(_: web.Request, websocket: web.WebSocketResponse) -> None:
        await websocket.receive()
        assert websocket.close_code == WSCloseCode.OK
        closed.set()

    kubelet.behaviour = wait_for_close
    async with forward_port(client, "n", "p", PORT):
        pass
    async with asyncio.timeout(120):
        await closed.wait()


class ScriptedWebSocket:
    """Client side of a WebSocket that receives `messages` and a close frame."""

    close_code: int | None = None

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = iter(messages)

    async def receive(self) -> object:
        message = next(self._messages, None)
        if message is not None:
            return WSMessage(WSMsgType.BINARY, message, None)
        self.close_code = WSCloseCode.OK
        return WSMessage(WSMsgType.CLOSE, WSCloseCode.OK, None)


@given(pieces=st.lists(st.binary(max_size=8)), with_port=st.booleans())
def test_for_every_split_the_data_is_the_same(pieces: list[bytes], with_port: bool) -> None:
    first = [DATA + PORT_BYTES, *(DATA + piece for piece in pieces)]
    messages = [DATA + PORT_BYTES + b"".join(pieces)] if with_port else first

    async def read() -> bytes:
        return b"".join(await read_all(ForwardedStream(ScriptedWebSocket(messages))))  # type: ignore[arg-type]  # only its stream methods are called

    assert asyncio.run(read()) == b"".join(pieces)
