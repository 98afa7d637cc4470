"""Client for an API server, with JSON documents and aiohttp's connection pool.

It has no model classes: 10,000 objects of the `kubernetes` library's models would exceed the proxy's memory limit.
"""

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode
from weakref import WeakSet

import aiohttp

from connector_store.boot_time import boot_time
from connector_store.domain.base.json_document import load_json
from connector_store.domain.callers.token_claims import parse_issuer
from connector_store.kube.configuration import Configuration, CredentialError
from connector_store.kube.errors import ApiError, suppress_status
from connector_store.kube.resources import token_request
from connector_store.kube.server_clock import ServerClock
from connector_store.outbound_proxy import proxy_from_environment

logger = logging.getLogger(__name__)

Json = dict[str, Any]

TIMEOUT: Final = 30.0
"""Seconds for one request with its response. Watches have their own limit."""

MAX_RETRY_AFTER: Final = 120
"""Maximum Retry-After, in seconds, that we obey. A load balancer before the API server may ask for hours."""

PAGE_SIZE: Final = 500
"""Objects in one page of a list, as in client-go."""

_JSON: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches"""

_CONNECT_TIMEOUT: Final = 10.0
_CA_PERIOD: Final = 60.0
"""Seconds between two reads of the file with the API server's CA. It is also read after a failed verification."""

_CLOSE_TIMEOUT: Final = 1.0
"""Seconds to wait for connections to end when the client is closed."""
_CHUNK_SIZE: Final = 64 * 1024
_MAX_ERROR_BODY: Final = 64 * 1024

# Notice a peer that vanished without a FIN within a minute.
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class KubeClient:
    """Client for one API server, with one connection pool. Its methods raise only ApiError."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        user_agent: str = "kubernetes-connector",
        now: Callable[[], float] = time.monotonic,
        server_clock: ServerClock | None = None,
    ) -> None:
        self.clock = server_clock or ServerClock()
        """The API server's time, from its responses."""
        self._configuration = configuration
        self._user_agent = user_agent
        self._now = now
        self._ca = _read_ca(configuration)
        self._ca_read_at = now()
        self._pool = _ConnectionPool(configuration)
        self._previous_pool: _ConnectionPool | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._previous_pool is not None:
            await self._previous_pool.close()
        await self._pool.close()

    async def _reload_ca(self) -> bool:
        """Read the API server's CA file again. Return True if it changed. New connections use the new CA.

        Watches that are open already continue until they end, at most five minutes later. Source: client-go,
        transport/ca_rotation.go.
        """
        self._ca_read_at = self._now()
        ca = _read_ca(self._configuration)
        if ca is None or ca == self._ca:
            return False
        try:
            pool = _ConnectionPool(self._configuration)
        except (OSError, ValueError) as e:
            # The file is incomplete, or not a certificate. Keep the current CA, and read the file again later.
            logger.warning("the CA of the API server, %s: %s", self._configuration.ssl_ca_cert, e)
            return False
        previous_pool, self._previous_pool, self._pool, self._ca = self._previous_pool, self._pool, pool, ca
        logger.info("the CA of the API server was read again, because it changed")
        if previous_pool is not None:
            await previous_pool.close()
        return True

    @property
    def host(self) -> str:
        """URL of the API server."""
        return self._configuration.host

    async def issuer(self) -> str:
        """Return the issuer of our own token, which is that of all pods' tokens. Return "" if we have no token."""
        with contextlib.suppress(OSError, CredentialError):
            return parse_issuer((await self._configuration.authorization() or "").removeprefix("Bearer "))
        return ""

    async def get(
        self, path: str, params: Mapping[str, str] | None = None, *, metadata: Literal["object", "list"] | None = None
    ) -> Json:
        """GET. With `metadata`, the object or the list's items are PartialObjectMetadata, without spec and data."""
        accept = {None: _JSON, "object": _METADATA, "list": _METADATA_LIST}[metadata]
        return await self._request_json("GET", path, params=params, accept=accept)

    async def find(self, path: str) -> Json | None:
        """GET an object. Return None if it does not exist."""
        with suppress_status(HTTPStatus.NOT_FOUND):
            return await self.get(path)
        return None

    async def create(self, path: str, body: Json, *, time_limit: float = TIMEOUT, dry_run: bool = False) -> Json:
        """POST. With `dry_run`, the API server runs admission and does not store the object."""
        params = {"dryRun": "All"} if dry_run else None
        return await self._request_json("POST", path, params=params, body=body, time_limit=time_limit)

    async def replace(self, path: str, body: Json) -> Json:
        """PUT. With metadata.resourceVersion in the body, the API server answers 409 if the object has changed."""
        return await self._request_json("PUT", path, body=body)

    async def patch(self, path: str, body: Json | list[Json], kind: Literal["merge", "json"] = "merge") -> Json:
        """PATCH, with a merge patch (RFC 7396) or a JSON patch (RFC 6902)."""
        return await self._request_json("PATCH", path, body=body, content_type=f"application/{kind}-patch+json")

    async def delete(self, path: str, *, uid: str | None = None) -> Json:
        """DELETE. With `uid`, only the object with that UID is deleted."""
        body = {"preconditions": {"uid": uid}} if uid else None
        return await self._request_json("DELETE", path, body=body)

    async def list_pages(self, path: str, params: Mapping[str, str] | None = None) -> AsyncIterator[Json]:
        """Return the pages of a list. Each is a List object. The last one has no metadata.continue."""
        query = {**(params or {}), "limit": str(PAGE_SIZE)}
        while True:
            page = await self.get(path, query)
            yield page
            continue_token = (page.get("metadata") or {}).get("continue")
            if not continue_token:
                return
            query["continue"] = continue_token

    async def list_objects(self, path: str, params: Mapping[str, str] | None = None) -> list[Json]:
        """Return the objects of all pages of a list. They have neither apiVersion nor kind."""
        return [each async for page in self.list_pages(path, params) for each in page.get("items") or ()]

    async def create_token(self, namespace: str, name: str, audience: str, ttl: int) -> str:
        """Request a token of that ServiceAccount (TokenRequest). `ttl` is in seconds, at least 600."""
        path, body = token_request(namespace, name, audience, ttl)
        return str((await self.create(path, body))["status"]["token"])

    @asynccontextmanager
    async def watch(
        self, path: str, params: Mapping[str, str], *, time_limit: float, metadata_only: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a watch and yield its chunks.

        `time_limit` is for the whole watch, in seconds, so that a watch also ends if its connection died without a FIN.
        With `metadata_only`, its objects are PartialObjectMetadata.
        """
        client_timeout = aiohttp.ClientTimeout(total=time_limit, sock_connect=_CONNECT_TIMEOUT)
        accept = _METADATA if metadata_only else _JSON
        response = await self._send("GET", path, params, None, _JSON, accept, client_timeout)
        try:
            yield _read_chunks(response)
        finally:
            # Do not release the connection to the pool, which would first read the rest of the watch.
            response.close()

    @asynccontextmanager
    async def open_websocket(
        self, path: str, params: Mapping[str, str], *, protocol: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket, and yield it. It has no time limit after its handshake."""
        url = self.host + path + "?" + urlencode(params)
        headers = {"User-Agent": self._user_agent}
        try:
            authorization = await self._configuration.authorization()
            if authorization:
                headers["Authorization"] = authorization
            async with asyncio.timeout(TIMEOUT):
                websocket = await self._pool.open_websocket(url, headers=headers, protocol=protocol)
        except aiohttp.WSServerHandshakeError as e:
            raise ApiError(e.status, f"the API server refused a WebSocket: {HTTPStatus(e.status).phrase}") from e
        except (aiohttp.ClientError, OSError, CredentialError, ValueError) as e:
            raise _error_from_exception(e) from e
        async with websocket:
            yield websocket

    async def _request_json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
        accept: str = _JSON,
        time_limit: float = TIMEOUT,
    ) -> Json:
        client_timeout = aiohttp.ClientTimeout(total=time_limit, sock_connect=_CONNECT_TIMEOUT)
        response = await self._send(method, path, params, body, content_type, accept, client_timeout)
        try:
            document = load_json(await response.read())
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise _error_from_exception(e) from e
        if not isinstance(document, dict):
            raise ApiError(0, "the API server's response is not a JSON object")
        return document

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: object,
        content_type: str,
        accept: str,
        client_timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        url = self.host + path + ("?" + urlencode(params) if params else "")
        try:
            if self._now() - self._ca_read_at >= _CA_PERIOD:
                await self._reload_ca()
            headers = {
                "Accept": accept,
                # The API server is near, so compression would cost more than it saves.
                "Accept-Encoding": "identity",
                "Content-Type": content_type,
                "User-Agent": self._user_agent,
            }
            authorization = await self._configuration.authorization()
            if authorization:
                headers["Authorization"] = authorization
            sent_at = boot_time()
            arguments: dict[str, Any] = {"headers": headers, "body": body, "client_timeout": client_timeout}
            try:
                response = await self._pool.request(method, url, **arguments)
            except aiohttp.ClientConnectorCertificateError:
                # The API server's CA may have been replaced since the file was read. No request was sent.
                if not await self._reload_ca():
                    raise
                response = await self._pool.request(method, url, **arguments)
            logger.debug("%s %s: %d", method, url, response.status)
            if response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                # A gateway in front of the API server sends others, with the time of its own clock.
                self.clock.observe(response.headers.get("Date"), sent_at=sent_at)
            if response.status >= 300:
                raise _error_from_response(response, await response.content.read(_MAX_ERROR_BODY))
        except (aiohttp.ClientError, OSError, CredentialError, ValueError) as e:
            raise _error_from_exception(e) from e
        return response


def _read_ca(configuration: Configuration) -> bytes | None:
    """Return None if no file is set, or if it cannot be read now."""
    try:
        # The file has a few kilobytes, so a thread would cost more than the read.
        return Path(configuration.ssl_ca_cert).read_bytes() if configuration.ssl_ca_cert else None
    except OSError:
        return None


class _ConnectionPool:
    """Connection pool, created with its first request."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        # Only tests run without TLS. They save the 30 ms that a context costs.
        self._ssl_context = configuration.ssl_context() if configuration.host.startswith("https://") else True
        self._proxy = configuration.proxy
        self._session: aiohttp.ClientSession | None = None
        self._sockets = WeakSet[socket.socket]()

    async def close(self) -> None:
        if self._session is None:
            return
        await self._session.close()
        # aiohttp does not wait for connections that it gave up before, and these wait for the server's close_notify.
        for each in self._open_sockets():
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                while self._open_sockets():  # noqa: ASYNC110 - a transport does not report that it is gone
                    await asyncio.sleep(0.005)

    def _open_sockets(self) -> list[socket.socket]:
        return [each for each in self._sockets if each.fileno() >= 0]

    def _create_socket(self, address_info: tuple[Any, ...]) -> socket.socket:
        family, socket_type, protocol, _, _ = address_info
        sock = socket.socket(family=family, type=socket_type, proto=protocol)
        self._sockets.add(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        return sock

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: object, client_timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        """Send a request, with `body` as JSON. Return when the response's head was read."""
        return await self._open_session().request(
            method,
            url,
            data=None if body is None else json.dumps(body),
            headers=headers,
            timeout=client_timeout,
            proxy=self._proxy,
            server_hostname=self._configuration.tls_server_name,
        )

    async def open_websocket(
        self, url: str, *, headers: Mapping[str, str], protocol: str
    ) -> aiohttp.ClientWebSocketResponse:
        return await self._open_session().ws_connect(
            url,
            protocols=(protocol,),
            headers=headers,
            proxy=self._proxy,
            server_hostname=self._configuration.tls_server_name,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No limit: watches hold their connections, and the callers bound their own requests.
            connector = aiohttp.TCPConnector(limit=0, ssl=self._ssl_context, socket_factory=self._create_socket)
            self._proxy = self._proxy or proxy_from_environment(self._configuration.host)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


async def _read_chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        while data := await response.content.read(_CHUNK_SIZE):
            yield data
    except (aiohttp.ClientError, OSError) as e:
        raise _error_from_exception(e) from e


def _error_from_response(response: aiohttp.ClientResponse, body: bytes) -> ApiError:
    """Return the error for a response with status 300 or more. The message is that of the Status in its body."""
    response.close()
    retry_after = _parse_retry_after(response.headers.get("Retry-After", ""))
    return ApiError.from_response(response.status, response.reason, body, retry_after=retry_after)


def _parse_retry_after(text: str) -> int | None:
    """Parse a Retry-After header. Return None for a date."""
    return min(int(text), MAX_RETRY_AFTER) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _error_from_exception(error: Exception) -> ApiError:
    """Return the error for a missing response. Its text never has a proxy's URL, which may contain a password."""
    match error:
        case TimeoutError():
            return ApiError(0, "the API server did not answer in time")
        case aiohttp.ClientHttpProxyError():
            return ApiError(0, f"the proxy on the way to the API server answered {error.status}")
        case aiohttp.ClientConnectorError():
            is_proxy_error = isinstance(error, aiohttp.ClientProxyConnectionError)
            peer = "the proxy on the way to the API server" if is_proxy_error else "the API server"
            return ApiError(0, f"cannot connect to {peer}, {error.host}:{error.port}: {error.os_error}")
        case aiohttp.InvalidURL():
            return ApiError(0, "the URL of the API server, or of the proxy on the way, is not valid")
        case CredentialError() | OSError():
            return ApiError(0, f"the API server cannot be reached: {error}")
        case _:
            return ApiError(0, f"the connection to the API server broke: {type(error).__name__}")
