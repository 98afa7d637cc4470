"""Connection of a kubeconfig to its target: the proxy, TLS to it, CONNECT, and TLS in the tunnel, one phase at a time.

This is what kubectl does. Only the standard library is used, and no environment variable about proxies.
"""

import asyncio
import contextlib
import http.client
import io
import json
import os
import socket
import ssl
from typing import Any, Final, NamedTuple

from connectorctl.connector_context import ConnectorContext
from connectorctl.proxy_client import basic_credentials, make_context

MAX_RESPONSE: Final = 1024 * 1024
"""Maximum bytes of a response to read."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class RouteResponse(NamedTuple):
    """Response of the proxy or the target. `is_refusal` means that the proxy did not pass the request on."""

    status: int
    reason: str
    body: bytes
    is_refusal: bool

    def json(self) -> Any:
        """Return the document. Raises ValueError if there is none."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Message of a Status, or else the reason phrase."""
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            return str(self.json()["message"])
        return self.reason


class ProxyRoute:
    """One connection. Call the phases in order. Each raises OSError if the connection fails."""

    def __init__(self, context: ConnectorContext) -> None:
        self._context = context
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the proxy."""
        url = self._context.proxy or self._context.server
        return url.hostname or "", url.port or _DEFAULT_PORTS.get(url.scheme, 0)

    @property
    def authority(self) -> str:
        """HOST:PORT of the proxy."""
        host, port = self.address
        return f"{_bracketed(host)}:{port}"

    @property
    def uses_proxy_tls(self) -> bool:
        """True if the first bytes to the proxy are a TLS handshake."""
        return (self._context.proxy or self._context.server).scheme == "https"

    async def dial(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(*self.address, limit=MAX_RESPONSE)

    async def start_proxy_tls(self) -> None:
        """Start TLS with the proxy, if the URL says so."""
        if self.uses_proxy_tls:
            await self._start_tls(self.address[0])

    async def connect(self) -> RouteResponse | None:
        """Send CONNECT. Return None if it is accepted, or if there is no tunnel."""
        proxy, server = self._context.proxy, self._context.server
        if proxy is None:
            return None
        authority = f"{_bracketed(server.hostname or '')}:{server.port or _DEFAULT_PORTS['https']}"
        login = basic_credentials(str(self._context.key), self._context.connect_token)
        self._writer.write(
            f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: {login}\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, _, reason = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")[2].partition(" ")
        if status == "200":
            return None
        return RouteResponse(int(status) if status.isdigit() else 0, reason, b"", is_refusal=True)

    async def start_target_tls(self) -> None:
        """Start TLS in the tunnel, if there is one."""
        if self._context.proxy is not None:
            await self._start_tls(self._context.server.hostname or "")

    async def request(self, method: str, path: str, token: str, body: object = None) -> RouteResponse:
        """Send the only request of the connection, below the path of the server."""
        server = self._context.server
        content = json.dumps(body).encode() if body is not None else b""
        fields = {
            "Host": server.netloc,
            "Accept": "application/json",
            "Connection": "close",
            "User-Agent": "connectorctl",
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **({"Content-Type": "application/json", "Content-Length": str(len(content))} if content else {}),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._writer.write(f"{method} {server.path.rstrip('/')}{path} HTTP/1.1\r\n{head}\r\n".encode() + content)
        return _parse(await self._read_to_end())

    def close(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.transport.abort()

    async def _start_tls(self, host: str) -> None:
        await self._writer.start_tls(make_context(self._context.ca), server_hostname=host)

    async def _read_to_end(self) -> bytes:
        data = bytearray()
        while len(data) < MAX_RESPONSE and (piece := await self._reader.read(65536)):
            data += piece
        return bytes(data)


class _ResponseFile:
    """The part of a socket that HTTPResponse uses."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parse(data: bytes) -> RouteResponse:
    """Parse a complete response. Raises OSError if it is not HTTP."""
    response = http.client.HTTPResponse(_ResponseFile(data))  # type: ignore[arg-type]  # only makefile is called
    try:
        response.begin()
        body = response.read(MAX_RESPONSE)
    except http.client.HTTPException as error:
        raise OSError(f"no valid response: {type(error).__name__}") from None
    warnings = response.headers.get_all("Warning", [])
    is_refusal = response.status >= 400 and any("kubernetes-connector" in warning for warning in warnings)
    return RouteResponse(response.status, response.reason, body, is_refusal)


def describe_error(error: Exception) -> str:
    """Return what went wrong with a connection, in words without an error number."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"the certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {getattr(error, 'reason', None) or error}"
        case TimeoutError():
            return "no answer in time"
        case asyncio.IncompleteReadError() | ConnectionResetError() | asyncio.LimitOverrunError():
            return "the connection was closed without an answer"
        case socket.gaierror():
            return f"the name cannot be resolved: {error.strerror}"
        case OSError(errno=int(number)):
            return os.strerror(number)
    return str(error)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
