"""The real proxy in this process: mitmproxy's own master with `addons/connector.py`, on a folder of manifests.

It runs with the mitmproxy addons of a service, or with all addons of mitmdump when requests are shown as flows.
"""

import asyncio
import base64
import json
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from mitmproxy import options
from mitmproxy.command import CommandManager
from mitmproxy.master import Master
from mitmproxy.optmanager import _Option
from mitmproxy.tools.dump import DumpMaster

from addons.__main__ import create_addons
from addons.net.sockets import CloseTimeouts, Sockets
from addons.relay.shared_context import SharedContext
from addons.server.process import FrozenHeap
from connector_store.domain.base.names import ObjectKey
from connector_store.folder.signing_key import SigningKey
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds that a test waits for an event that must happen."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """A complete response."""

    status: int
    phrase: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class ClientConnection:
    """Client side of a connection to the proxy. Tests write bytes and read responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self) -> tuple[int, str, dict[str, str]]:
        """Read a status line and headers. Return status, reason phrase and headers with names in lower case."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        line, *fields = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        _, status, phrase = (line + "  ").split(" ", 2)
        return int(status), phrase.strip(), {n.lower(): v.strip() for n, _, v in (f.partition(":") for f in fields)}

    async def read_response(self, *, body: bool = True) -> Response:
        status, phrase, headers = await self.read_head()
        content = b""
        if body and headers.get("transfer-encoding") == "chunked":
            content = await self._read_chunks()
        elif body and "content-length" in headers:
            content = await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), PATIENCE)
        return Response(status=status, phrase=phrase, headers=headers, body=content)

    async def read_to_eof(self) -> bytes:
        """Read everything until the proxy closes or resets the connection."""
        content = bytearray()
        with suppress(OSError):
            async with asyncio.timeout(PATIENCE):
                while data := await self.reader.read(65536):
                    content += data
        return bytes(content)

    async def _read_chunks(self) -> bytes:
        content = bytearray()
        async with asyncio.timeout(PATIENCE):
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                content += (await self.reader.readexactly(size + 2))[:-2]
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
        return bytes(content)

    def close(self) -> None:
        self.writer.transport.abort()


class Proxy:
    """A running proxy and how a caller reaches it."""

    def __init__(self, master: Master, folder: Path, confdir: Path) -> None:
        self.master = master
        self.folder = folder
        self.confdir = confdir
        self.port: int = master.addons.get("proxyserver").listen_addrs()[0][1]
        self._clients: list[ClientConnection] = []
        self._key = SigningKey.load_or_create(confdir)

    @property
    def context(self) -> SharedContext:
        context: SharedContext = self.master.addons.get("connections").parts().context
        return context

    def set_close_timeouts(self, close_timeouts: CloseTimeouts) -> None:
        """Set the close timeouts of connections that are accepted later."""
        connections = self.master.addons.get("connections")
        connections.set_parts(
            replace(connections.parts(), context=replace(self.context, close_timeouts=close_timeouts))
        )

    @property
    def sockets(self) -> Sockets:
        """Sockets of the only open client connection."""
        open_sockets: tuple[Sockets, ...] = tuple(self.master.addons.get("connections")._sockets.values())
        (sockets,) = open_sockets
        return sockets

    @property
    def stage(self) -> Any:
        """Current stage of the only open client connection."""
        return self.sockets._stage

    @property
    def connection_count(self) -> int:
        count: int = self.master.addons.get("connections").open_count
        return count

    def scrape(self) -> str:
        """Return the text of the proxy's metrics."""
        return b"".join(self.master.addons.get("lifecycle")._records.metrics.render()).decode()

    def token(self, key: str, *, ttl: int = 3600, audience: str = "connectors-proxy", ago: float = 0) -> str:
        return self._key.issue(ObjectKey.parse(key), ttl=ttl, now=time.time() - ago, audience=audience)

    async def open(self) -> ClientConnection:
        """Open a TCP connection and send nothing."""
        client = ClientConnection(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Abort all client connections."""
        for client in self._clients:
            client.close()

    async def connect(
        self,
        authority: str,
        credentials: str | bytes | None,
        *,
        agent: str = "test",
        client: ClientConnection | None = None,
    ) -> tuple[ClientConnection, Response]:
        """Send a CONNECT. `credentials` is `ns/name:token`, or the complete header value as bytes."""
        client = client or await self.open()
        value = credentials
        if isinstance(value, str):
            value = b"Basic " + base64.b64encode(value.encode())
        line = b"" if value is None else b"Proxy-Authorization: %b\r\n" % value
        name = authority.encode()
        await client.send(
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: %b\r\n%b\r\n" % (name, name, agent.encode(), line)
        )
        return client, await client.read_response()

    async def tunnel(self, authority: str, credentials: str) -> ClientConnection:
        """Open a CONNECT tunnel and start TLS in it."""
        client, response = await self.connect(authority, credentials)
        assert response.status == 200, response
        await self.start_tls(client, authority.rpartition(":")[0])
        return client

    async def tunnel_to(self, target: FakeTarget, key: str = "team-a/k8s") -> ClientConnection:
        """Open a tunnel to the target of a Connector, with a token for it."""
        return await self.tunnel(f"127.0.0.1:{target.port}", f"{key}:{self.token(key)}")

    async def open_tls(self, server_name: str = "127.0.0.1", *, verify: bool = True) -> ClientConnection:
        """Open a connection with TLS at the port. Its certificate is verified for `server_name`."""
        client = await self.open()
        await self.start_tls(client, server_name, verify=verify)
        return client

    async def start_tls(self, client: ClientConnection, host: str, *, verify: bool = True) -> None:
        context = ssl.create_default_context(cafile=str(self.confdir / "mitmproxy-ca-cert.pem"))
        # kubectl accepts CA certificates without a key identifier, too.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        await asyncio.wait_for(client.writer.start_tls(context, server_hostname=host), PATIENCE)


class OptionTable(dict[str, _Option]):
    """Options whose copies share their values.

    mitmproxy deep-copies all options before each change, which is a large part of a proxy's start.
    """

    def __deepcopy__(self, _: object) -> Self:
        return type(self)((name, copy(option)) for name, option in self.items())


class Options(options.Options):
    """Options that do not notify addons of each new option, which is another large part of a proxy's start."""

    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.__dict__["_options"] = OptionTable(self._options)
        self.update(**values)

    def add_option(
        self, name: str, typespec: object, default: Any, help: str, choices: Sequence[str] | None = None
    ) -> None:
        self._options[name] = _Option(name, typespec, default, help, choices)


class Commands(CommandManager):
    """Command manager without commands. Collecting them takes time at the start, and no test runs a command."""

    def collect_commands(self, addon: object) -> None:
        pass


def _skip_freeze(_: FrozenHeap) -> None:
    """Do not freeze the heap. It belongs to the tests and holds the garbage of earlier ones."""


@asynccontextmanager
async def running_proxy(folder: Path, confdir: Path, **settings: str) -> AsyncIterator[Proxy]:
    """Run a proxy on the manifests in `folder`. `settings` are options of the proxy."""
    option_values = {"connector_source": str(folder), "connector_admin": "", "connector_sessions": ""} | settings
    opts = Options(confdir=str(confdir), listen_host="127.0.0.1", listen_port=0)
    master = _as_mitmdump(opts) if settings.get("connector_flows") == "on" else _as_a_service(opts)
    opts.set(*(f"{name}={value}" for name, value in option_values.items()), defer=True)
    opts.update(scripts=[str(ROOT / "addons" / "connector.py")])
    with patch.multiple(FrozenHeap, running=_skip_freeze, done=_skip_freeze):
        task = asyncio.create_task(master.run())
        try:
            await until(lambda: task.done() or bool(master.addons.get("proxyserver").listen_addrs()))
            proxy = Proxy(master, folder, confdir)
            await until(lambda: task.done() or not proxy.context.access_context.unsynced)
            yield proxy
            proxy.close()
        finally:
            await _shut_down(master)
            await asyncio.wait_for(task, PATIENCE)
            if lifecycle := master.addons.get("lifecycle"):
                await asyncio.wait_for(asyncio.gather(*lifecycle._tasks, return_exceptions=True), PATIENCE)
                if lifecycle._records is not None:
                    # Its last audit lines belong to this test, and not to the output of the next one.
                    lifecycle._records.close.__self__._executor.shutdown()


def _as_mitmdump(opts: options.Options) -> Master:
    return DumpMaster(opts, with_termlog=False, with_dumper=False)


def _as_a_service(opts: options.Options) -> Master:
    master = Master(opts)
    master.commands = Commands(master)
    master.addons.add(*create_addons())
    return master


async def _shut_down(master: Master) -> None:
    """Close listeners and connections, which mitmproxy leaves to the end of the process."""
    server = master.addons.get("proxyserver")
    await server.servers.update([])
    if connections := master.addons.get("connections"):
        for sockets in tuple(connections._sockets.values()):
            sockets.abort()
        await until(lambda: not connections.open_count)
    master.shutdown()


def copy_confdir(template: Path, to: Path) -> Path:
    """Copy a confdir. Tests share one CA because creating it takes a second."""
    return Path(shutil.copytree(template, to))
