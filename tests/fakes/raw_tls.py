"""The client's side of TLS in a test's hands: for what libraries never send, and for what they do not show."""

import asyncio

from OpenSSL import SSL

from tests.fakes.proxy import PATIENCE, Stream


class RawTls:
    """TLS on the connection of `stream`, whose certificate nobody checks."""

    def __init__(self, stream: Stream, server_name: str = "localhost", context: SSL.Context | None = None) -> None:
        self.stream = stream
        self.tls = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD))
        if server_name:
            self.tls.set_tlsext_host_name(server_name.encode())
        self.tls.set_connect_state()
        self.whole = False
        """The peer has ended the session (close_notify), and not only its connection."""

    def said(self) -> bytes:
        """What the session has to say and has not sent."""
        found = b""
        while True:
            try:
                found += self.tls.bio_read(65536)
            except SSL.WantReadError:
                return found

    async def handshake(self) -> None:
        """ConnectionError if the peer ends it, SSL.Error if it refuses."""
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self.stream.say(self.said())
                if not await self.take():
                    raise ConnectionResetError("closed during the handshake") from None
            else:
                await self.stream.say(self.said())
                return

    async def say(self, data: bytes) -> None:
        self.tls.sendall(data)
        await self.stream.say(self.said())

    async def take(self) -> bool:
        """Hand on what comes next; False at the end."""
        try:
            data = await asyncio.wait_for(self.stream.reader.read(65536), PATIENCE)
        except ConnectionResetError:
            return False
        if data:
            self.tls.bio_write(data)
        return bool(data)

    async def some(self) -> bytes:
        """Plain text; nothing at the end."""
        while True:
            try:
                return self.tls.recv(65536)
            except SSL.ZeroReturnError:
                self.whole = True
                return b""
            except SSL.WantReadError:
                await self.stream.say(self.said())
                if not await self.take():
                    return b""

    async def rest(self) -> bytes:
        """Everything until the end."""
        found = bytearray()
        while data := await self.some():
            found += data
        return bytes(found)
