"""Client side of TLS, controlled by a test: it can send what libraries never send and see what they hide."""

import asyncio

from OpenSSL import SSL

from tests.fakes.proxy import PATIENCE, ClientConnection


class RawTls:
    """TLS session on the connection of `client`. It does not verify the certificate."""

    def __init__(
        self, client: ClientConnection, server_name: str = "localhost", context: SSL.Context | None = None
    ) -> None:
        self.client = client
        self.tls = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD))
        if server_name:
            self.tls.set_tlsext_host_name(server_name.encode())
        self.tls.set_connect_state()
        self.clean_eof = False
        """The peer sent close_notify before it closed the connection."""

    def read_outgoing(self) -> bytes:
        """Return the records that the session has not sent yet."""
        data = b""
        while True:
            try:
                data += self.tls.bio_read(65536)
            except SSL.WantReadError:
                return data

    async def handshake(self) -> None:
        """Complete the handshake. Raises ConnectionError if the peer closes, SSL.Error if it refuses."""
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
        """Read once and pass the data to the session. Return False at EOF."""
        try:
            data = await asyncio.wait_for(self.client.reader.read(65536), PATIENCE)
        except ConnectionResetError:
            return False
        if data:
            self.tls.bio_write(data)
        return bool(data)

    async def read_some(self) -> bytes:
        """Read plaintext. Return an empty value at EOF."""
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
        """Read plaintext until EOF."""
        content = bytearray()
        while data := await self.read_some():
            content += data
        return bytes(content)
