"""The client's side of TLS in a test's hands: for what libraries never send, and for what they do not show."""

import asyncio

from OpenSSL import SSL

from tests.fakes.proxy import PATIENCE, ClientConnection


class RawTls:
    """TLS on the connection of `stream`, whose certificate nobody checks."""

    def __init__(
        self, client: ClientConnection, server_name: str = "localhost", context: SSL.Context | None = None
    ) -> None:
        self.client = client
        self.tls = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD))
        if server_name:
            self.tls.set_tlsext_host_name(server_name.encode())
        self.tls.set_connect_state()
        self.clean_eof = False
        """The peer has ended the session (close_notify), and not only its connection."""

    def read_outgoing(self) -> bytes:
        """What the session has to say and has not sent."""
        data = b""
        while True:
            try:
                data += self.tls.bio_read(65536)
            except SSL.WantReadError:
                return data

    async def handshake(self) -> None:
        """ConnectionError if the peer ends it, SSL.Error if it refuses."""
        while True:
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                await self.client.send(self.read_outgoing())
                if not await self.feed():
                    raise ConnectionResetError("closed during the handshake") from None
            else:
                await self.client.send(self.read_outgoing())
                return

    async def send(self, data: bytes) -> None:
        self.tls.sendall(data)
        await self.client.send(self.read_outgoing())

    async def feed(self) -> bool:
        """Hand on what comes next; False at the end."""
        try:
            data = await asyncio.wait_for(self.client.reader.read(65536), PATIENCE)
        except ConnectionResetError:
            return False
        if data:
            self.tls.bio_write(data)
        return bool(data)

    async def read_some(self) -> bytes:
        """Plain text; nothing at the end."""
        while True:
            try:
                return self.tls.recv(65536)
            except SSL.ZeroReturnError:
                self.clean_eof = True
                return b""
            except SSL.WantReadError:
                await self.client.send(self.read_outgoing())
                if not await self.feed():
                    return b""

    async def read_to_eof(self) -> bytes:
        """Everything until the end."""
        content = bytearray()
        while data := await self.read_some():
            content += data
        return bytes(content)
