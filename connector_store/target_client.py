"""Client for our own requests to targets: probes and token requests.

It uses the trust and the address policy of the data path. Its TLS is also that of the data path
(`TrustStore.openssl_connection`), so both judge a target alike, and no client certificate is written to a file. The
client resolves the name once, drops denied addresses, and dials the others in turn. It does not follow redirects.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import h11
from OpenSSL import SSL

from connector_store.domain.base.errors import ParseError
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.decision.address_plan import is_ip, share_time
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.objects.models import Address
from connector_store.resolver import Resolver
from connector_store.trust import InvalidCertificateError, NotTlsError, TlsError, TrustStore, tls_error

MAX_HEAD: Final = 16384
"""Maximum size of a response's head, in bytes."""
_READ_SIZE: Final = 65536

Headers = Iterable[tuple[str, str]]


class TargetError(Exception):
    """The request got no response. The text says why and what to do, and never contains a header."""


class DialTimeoutError(TargetError):
    """The target did not complete the TLS handshake in time. This does not depend on the request or the credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResponse:
    """Response of a target. `body` is the part that was read. `is_complete` is True if that is the whole body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    is_complete: bool

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header by its lower-case name. If it is repeated, return the first value."""
        return next((value for each, value in self.headers if each == name), None)


class TargetClient:
    """Client for all targets."""

    def __init__(self, trust: TrustStore, policy: AddressPolicy, resolver: Resolver, *, user_agent: str) -> None:
        self.policy = policy
        self._trust = trust
        self._resolver = resolver
        self._user_agent = user_agent

    @asynccontextmanager
    async def connect(
        self, address: Address, ca: bytes | None, identity: ClientCertificate | None = None, *, time_limit: float
    ) -> AsyncIterator["TargetSession"]:
        """Create a session, which dials on its first request.

        Its requests together take at most `time_limit` seconds.
        """
        session = TargetSession(self, address, ca, identity, time_limit)
        try:
            yield session
        finally:
            session.close()

    async def open_connection(
        self, address: Address, ca: bytes | None, identity: ClientCertificate | None, deadline: float
    ) -> "_TlsConnection":
        """Return a connection after its TLS handshake. Raises TargetError with the problem of the last address.

        Each address gets an equal share of the time until `deadline`, which is in seconds of the event loop's clock.
        """
        try:
            # Fail before dialling if the trust cannot be loaded.
            self._trust.openssl_context(ca, identity)
        except ParseError as error:
            raise TargetError(f"the CA of the target is {error.reason}") from None
        addresses = await self._resolve_allowed(address)
        failure: OSError = TimeoutError()
        for ip, timeout in share_time(addresses, deadline, asyncio.get_running_loop().time):
            try:
                async with asyncio.timeout(timeout):
                    return await self._connect(ip, address, ca, identity)
            except OSError as error:
                failure = error
        if isinstance(failure, TimeoutError):
            raise failure
        raise TargetError(_describe_failure(failure, address))

    async def _connect(
        self, ip: str, address: Address, ca: bytes | None, identity: ClientCertificate | None
    ) -> "_TlsConnection":
        reader, writer = await asyncio.open_connection(ip, address.port)
        tls = self._trust.openssl_connection(ca, address.host, identity)
        connection = _TlsConnection(reader, writer, tls)
        try:
            await connection.handshake()
        except BaseException:
            writer.transport.abort()
            raise
        return connection

    async def _resolve_allowed(self, address: Address) -> list[str]:
        addresses: Sequence[str] = (address.host,)
        if not is_ip(address.host):
            addresses = (await self._resolver.resolve(address.host, address.port)).addresses
        if not addresses:
            raise TargetError(
                f"{address.authority}: the name cannot be resolved; check spec.address and the cluster's DNS"
            )
        allowed_addresses = [each for each in addresses if self.policy.allows(each)]
        if not allowed_addresses:
            raise TargetError(
                f"{address.authority} resolves to denied addresses only ({', '.join(sorted(addresses)[:4])}); "
                "targets-allow of the ConfigMap connectors-config can allow them"
            )
        return allowed_addresses

    def build_headers(self, address: Address, headers: Headers, content_length: int | None) -> list[tuple[str, str]]:
        """Return `headers` with the default headers that they lack, and with Content-Length."""
        default_headers = [
            ("Host", address.authority),
            ("User-Agent", self._user_agent),
            ("Accept", "application/json, */*"),
        ]
        explicit_headers = list(headers)
        names = {name.lower() for name, _ in explicit_headers}
        missing_headers = [each for each in default_headers if each[0].lower() not in names]
        return [
            *missing_headers,
            *explicit_headers,
            *([("Content-Length", str(content_length))] if content_length is not None else []),
        ]

    def store_session(self, connection: "_TlsConnection", host: str) -> None:
        self._trust.store_session(connection.tls, host)


class TargetSession:
    """Sequential requests to one target. They share a connection as long as the target keeps it open."""

    def __init__(
        self,
        client: TargetClient,
        address: Address,
        ca: bytes | None,
        identity: ClientCertificate | None,
        time_limit: float,
    ) -> None:
        self._client = client
        self._address = address
        self._ca = ca
        self._identity = identity
        self._time_limit = time_limit
        self._deadline = asyncio.get_running_loop().time() + time_limit
        self._connection: _TlsConnection | None = None

    async def request(
        self, method: str, path: str, headers: Headers = (), *, body: bytes | None = None, max_body: int
    ) -> TargetResponse:
        """Send a request and return its response. `path` is below the address's prefix.

        At most `max_body` bytes of the response's body are read. Raises TargetError if there is no response in time.
        """
        request_headers = self._client.build_headers(self._address, headers, None if body is None else len(body))
        try:
            request = h11.Request(method=method, target=f"{self._address.prefix}{path}", headers=request_headers)
        except (h11.LocalProtocolError, ValueError):
            raise TargetError(
                f"{self._address.authority} cannot be asked: the class's probe is not a valid request"
            ) from None
        connection = await self._open_connection()
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._exchange(connection, request, body, max_body)
        except TimeoutError:
            self.close()
            raise TargetError(self._timeout_text()) from None

    async def dial(self) -> None:
        """Open the connection if none is open. Raises DialTimeoutError if the session's time is over."""
        await self._open_connection()

    async def _open_connection(self) -> "_TlsConnection":
        if self._connection is None:
            try:
                async with asyncio.timeout_at(self._deadline):
                    self._connection = await self._client.open_connection(
                        self._address, self._ca, self._identity, self._deadline
                    )
            except TimeoutError:
                raise DialTimeoutError(self._timeout_text()) from None
        return self._connection

    def _timeout_text(self) -> str:
        return (
            f"{self._address.authority} did not answer within {self._time_limit:.0f} s; "
            "check the address, and firewalls on the way"
        )

    async def _exchange(
        self, connection: "_TlsConnection", request: h11.Request, body: bytes | None, max_body: int
    ) -> TargetResponse:
        try:
            response = await connection.exchange(request, body, max_body)
        except TimeoutError:
            raise
        except (OSError, h11.ProtocolError) as error:
            self.close()
            raise TargetError(_describe_failure(error, self._address)) from None
        if not connection.start_next_request():
            self.close()
        return response

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.store_session(connection, self._address.host)
            connection.close()


class _TlsConnection:
    """TLS connection over asyncio streams. A failure is a ConnectionError with a text that may be shown."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: SSL.Connection) -> None:
        self.tls = tls
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._at_eof = False

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self._flush()
                await self._receive()
            except SSL.Error as error:
                raise tls_error(self.tls, error) from None
            else:
                await self._flush()
                return
            if self._at_eof:
                raise TlsError("it closed the connection during the TLS handshake")

    async def exchange(self, request: h11.Request, body: bytes | None, max_body: int) -> TargetResponse:
        request_bytes = [self._http.send(request)]
        if body:
            request_bytes.append(self._http.send(h11.Data(data=body)))
        request_bytes.append(self._http.send(h11.EndOfMessage()))
        self.tls.sendall(b"".join(each or b"" for each in request_bytes))
        await self._flush()
        response: h11.Response | None = None
        response_body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._read())
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                response_body += event.data
            elif isinstance(event, h11.EndOfMessage) and response is not None:
                return _make_response(response, response_body, max_body, is_complete=len(response_body) <= max_body)
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionError("broke off its answer")
            if response is not None and len(response_body) > max_body:
                return _make_response(response, response_body, max_body, is_complete=False)

    def start_next_request(self) -> bool:
        """Prepare for another request. Return False if the connection cannot serve one."""
        if self._at_eof or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        # No close_notify is sent: either the response was complete, or it is not needed any more.
        self._writer.transport.abort()

    async def _read(self) -> bytes:
        while True:
            try:
                return self.tls.recv(_READ_SIZE)
            except SSL.WantReadError:
                await self._flush()
                await self._receive()
                if self._at_eof:
                    return b""
            except SSL.ZeroReturnError:
                self._at_eof = True
                return b""
            except SSL.Error as error:
                raise tls_error(self.tls, error) from None

    async def _receive(self) -> None:
        data = await self._reader.read(_READ_SIZE)
        if data:
            self.tls.bio_write(data)
        else:
            self._at_eof = True

    async def _flush(self) -> None:
        while True:
            try:
                self._writer.write(self.tls.bio_read(_READ_SIZE))
            except SSL.WantReadError:
                break
        await self._writer.drain()


def _make_response(response: h11.Response, body: bytearray, max_body: int, *, is_complete: bool) -> TargetResponse:
    return TargetResponse(
        status=response.status_code,
        headers=tuple(response.headers),
        body=bytes(body[:max_body]),
        is_complete=is_complete,
    )


def _describe_failure(error: Exception, address: Address) -> str:
    authority = address.authority
    match error:
        case InvalidCertificateError():
            return f"{authority}: {error}; put the CA of the target under ca.crt"
        case NotTlsError():
            return f"{authority} does not speak TLS as it should; check the port in spec.address"
        case TlsError():
            return f"{authority}: {error}; check what listens there"
        case OSError(errno=int(number)) if number:
            # asyncio writes its own text into strerror.
            return f"{authority}: {os.strerror(number)}; check that an API server listens there"
        case _:
            return f"{authority} broke off its answer; check that an API server listens there"
