"""Port-forward to a pod over a WebSocket, as one stream of bytes.

The protocol is `v4.channel.k8s.io` of kubelet (k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go). A message
begins with its channel: 0 has the data, 1 has errors. The first message of a channel is the port.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import PODS

PROTOCOL: Final = "v4.channel.k8s.io"
_DATA: Final = 0
_ERROR: Final = 1
_PORT_SIZE: Final = 2
"""Bytes of the port in the first message of a channel."""


class ForwardedStream:
    """Connection to a port of a pod. Its methods raise ApiError."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._has_port = {_DATA: False, _ERROR: False}

    async def write(self, data: bytes) -> None:
        try:
            await self._websocket.send_bytes(bytes([_DATA]) + data)
        except (aiohttp.ClientError, OSError) as e:
            raise ApiError(0, "the port-forward is closed") from e

    async def read(self) -> bytes:
        """Return the next data, or b"" after the pod or the API server has closed the stream in order."""
        while True:
            message = await self._websocket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                if self._websocket.close_code == aiohttp.WSCloseCode.OK:
                    return b""
                raise ApiError(0, "the port-forward broke off; try again")
            channel, data = message.data[0], bytes(message.data[1:])
            if channel not in self._has_port:
                continue
            if not self._has_port[channel]:
                self._has_port[channel] = True
                data = data[_PORT_SIZE:]
            if data and channel == _ERROR:
                raise ApiError(0, f"the port-forward failed: {data.decode('utf-8', 'replace').strip()}")
            if data:
                return data


@asynccontextmanager
async def forward_port(client: KubeClient, namespace: str, pod: str, port: int) -> AsyncIterator[ForwardedStream]:
    """Connect to a port on the loopback of a pod. Raises ApiError."""
    path = PODS.path(namespace, pod, "portforward")
    async with client.open_websocket(path, {"ports": str(port)}, protocol=PROTOCOL) as websocket:
        yield ForwardedStream(websocket)
