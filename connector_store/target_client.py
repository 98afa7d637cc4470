"""Requests of our own to targets: probes and token requests, over the trust and address policy of the data path.

The TLS is the data path's too (`TrustStore.openssl_connection`), so that both come to the same verdict about a target,
and a client certificate never has to lie in a file. The name is resolved once, denied addresses are dropped, and what
is left is what is dialled, in turn. Redirects are not followed.
"""

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import h11
from OpenSSL import SSL

from connector_store.domain.base.errors import ParseError
from connector_store.domain.credential.client_certificate import ClientCertificate
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.objects.models import Address
from connector_store.trust import TrustStore, why_tls_failed

HEAD: Final = 16384
"""Bytes of an answer's head."""
_READ: Final = 65536

Headers = Iterable[tuple[str, str]]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class TargetError(Exception):
    """There is no answer. The text says why and what to do, and never holds a header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`body` is what was read of it; `whole` if that is all."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    whole: bool

    def header(self, name: bytes) -> bytes | None:
        """By its name in lower case; the first, if there are several."""
        return next((value for each, value in self.headers if each == name), None)


class TargetClient:
    """`resolve` gives the addresses of a name and a port, none where there are none."""

    def __init__(self, trust: TrustStore, policy: AddressPolicy, resolve: Resolve, *, user_agent: str) -> None:
        self.policy = policy
        self._trust = trust
        self._resolve = resolve
        self._user_agent = user_agent

    @asynccontextmanager
    async def connect(
        self, address: Address, ca: bytes | None, identity: ClientCertificate | None = None, *, seconds: float
    ) -> AsyncIterator["Session"]:
        """Dials when the first request is made; all requests together have that many seconds."""
        session = Session(self, address, ca, identity, seconds)
        try:
            yield session
        finally:
            session.close()

    async def open(
        self, address: Address, ca: bytes | None, identity: ClientCertificate | None, deadline: float
    ) -> "_Connection":
        """A connection with its handshake done; TargetError with what the last address said.

        Every address gets an equal share of the time left until `deadline`, by the loop's clock.
        """
        try:
            # Before anything is dialled: whose trust cannot be loaded is asked nothing.
            self._trust.openssl_context(ca, identity)
        except ParseError as error:
            raise TargetError(f"the CA of the target is {error.reason}") from None
        addresses = await self._addresses(address)
        now = asyncio.get_running_loop().time
        for left in range(len(addresses), 1, -1):
            try:
                async with asyncio.timeout((deadline - now()) / left):
                    return await self._open(addresses[-left], address, ca, identity)
            except OSError:
                continue
        try:
            return await self._open(addresses[-1], address, ca, identity)
        except TimeoutError:
            raise
        except OSError as error:
            raise TargetError(_why(error, address)) from None

    async def _open(
        self, ip: str, address: Address, ca: bytes | None, identity: ClientCertificate | None
    ) -> "_Connection":
        reader, writer = await asyncio.open_connection(ip, address.port)
        tls = self._trust.openssl_connection(ca, address.host, identity)
        connection = _Connection(reader, writer, tls)
        try:
            await connection.handshake()
        except BaseException:
            writer.transport.abort()
            raise
        return connection

    async def _addresses(self, address: Address) -> list[str]:
        found = [address.host] if _is_ip(address.host) else await self._resolve(address.host, address.port)
        if not found:
            raise TargetError(
                f"{address.authority}: the name cannot be resolved; check spec.address and the cluster's DNS"
            )
        permitted = [each for each in found if self.policy.allows(each)]
        if not permitted:
            raise TargetError(
                f"{address.authority} resolves to denied addresses only ({', '.join(sorted(found)[:4])}); "
                "targets-allow of the ConfigMap connectors-config can allow them"
            )
        return permitted

    def head(self, address: Address, headers: Headers, length: int | None) -> list[tuple[str, str]]:
        """What a request says before what its maker wants to say."""
        ours = [("Host", address.authority), ("User-Agent", self._user_agent), ("Accept", "application/json, */*")]
        given = list(headers)
        names = {name.lower() for name, _ in given}
        first = [each for each in ours if each[0].lower() not in names]
        return [*first, *given, *([("Content-Length", str(length))] if length is not None else [])]

    def keep(self, connection: "_Connection", host: str) -> None:
        self._trust.keep_session(connection.tls, host)


class Session:
    """One request after the other, over one connection as long as the target keeps it."""

    def __init__(
        self,
        client: TargetClient,
        address: Address,
        ca: bytes | None,
        identity: ClientCertificate | None,
        seconds: float,
    ) -> None:
        self._client = client
        self._address = address
        self._ca = ca
        self._identity = identity
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._open: _Connection | None = None

    async def request(
        self, method: str, path: str, headers: Headers = (), *, body: bytes | None = None, most: int
    ) -> Answer:
        """`path` is below the address's prefix; of the answer's body at most `most` bytes are read.

        TargetError if there is none, or none in time.
        """
        head = self._client.head(self._address, headers, None if body is None else len(body))
        try:
            asked = h11.Request(method=method, target=f"{self._address.prefix}{path}", headers=head)
        except (h11.LocalProtocolError, ValueError):
            raise TargetError(
                f"{self._address.authority} cannot be asked: the class's probe is not a valid request"
            ) from None
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._exchange(asked, body, most)
        except TimeoutError:
            self.close()
            raise TargetError(
                f"{self._address.authority} did not answer within {self._seconds:.0f} s; "
                "check the address, and firewalls on the way"
            ) from None

    async def _exchange(self, asked: h11.Request, body: bytes | None, most: int) -> Answer:
        connection = self._open
        if connection is None:
            connection = await self._client.open(self._address, self._ca, self._identity, self._deadline)
            self._open = connection
        try:
            answer = await connection.exchange(asked, body, most)
        except TimeoutError:
            raise
        except (OSError, h11.ProtocolError) as error:
            self.close()
            raise TargetError(_why(error, self._address)) from None
        if not connection.again():
            self.close()
        return answer

    def close(self) -> None:
        connection, self._open = self._open, None
        if connection is not None:
            self._client.keep(connection, self._address.host)
            connection.close()


class _Connection:
    """TLS over a socket; ConnectionError with words of its own for what goes wrong with it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: SSL.Connection) -> None:
        self.tls = tls
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD)
        self._ended = False

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self._flush()
                await self._more()
            except SSL.Error as error:
                raise _TlsError(why_tls_failed(self.tls, error)) from None
            else:
                await self._flush()
                return
            if self._ended:
                raise _TlsError("it closed the connection during the TLS handshake")

    async def exchange(self, asked: h11.Request, body: bytes | None, most: int) -> Answer:
        pieces = [self._http.send(asked)]
        if body:
            pieces.append(self._http.send(h11.Data(data=body)))
        pieces.append(self._http.send(h11.EndOfMessage()))
        self.tls.sendall(b"".join(each or b"" for each in pieces))
        await self._flush()
        head: h11.Response | None = None
        found = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._read())
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                found += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _answer(head, found, most, whole=len(found) <= most)
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionError("broke off its answer")
            if head is not None and len(found) > most:
                return _answer(head, found, most, whole=False)

    def again(self) -> bool:
        """True if another request may follow."""
        if self._ended or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        # TLS's own farewell is not sent: what was asked was answered, or nobody waits for it any more.
        self._writer.transport.abort()

    async def _read(self) -> bytes:
        while True:
            try:
                return self.tls.recv(_READ)
            except SSL.WantReadError:
                await self._flush()
                await self._more()
                if self._ended:
                    return b""
            except SSL.ZeroReturnError:
                self._ended = True
                return b""
            except SSL.Error as error:
                raise _TlsError(why_tls_failed(self.tls, error)) from None

    async def _more(self) -> None:
        data = await self._reader.read(_READ)
        if data:
            self.tls.bio_write(data)
        else:
            self._ended = True

    async def _flush(self) -> None:
        while True:
            try:
                self._writer.write(self.tls.bio_read(_READ))
            except SSL.WantReadError:
                break
        await self._writer.drain()


class _TlsError(ConnectionError):
    """Of TLS, in words that may be shown."""


def _answer(head: h11.Response, body: bytearray, most: int, *, whole: bool) -> Answer:
    return Answer(status=head.status_code, headers=tuple(head.headers), body=bytes(body[:most]), whole=whole)


def _why(error: Exception, address: Address) -> str:
    where = address.authority
    match error:
        case _TlsError() if "certificate is not valid" in str(error):
            return f"{where}: {error}; put the CA of the target under ca.crt"
        case _TlsError() if "does not speak TLS" in str(error):
            return f"{where} does not speak TLS as it should; check the port in spec.address"
        case _TlsError():
            return f"{where}: {error}; check what listens there"
        case OSError(errno=int(number)) if number:
            # asyncio puts words of its own into strerror.
            return f"{where}: {os.strerror(number)}; check that an API server listens there"
        case _:
            return f"{where} broke off its answer; check that an API server listens there"


def resolve_by(executor: Executor | None) -> Resolve:
    """The system's resolver, on threads that a dead name server may hold."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, _getaddrinfo, host, port)
        except (OSError, UnicodeError):
            return ()

    return resolve


def _getaddrinfo(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
