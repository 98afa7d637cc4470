"""Strangers cannot use up what callers need at direct access by alias.

Four strangers make handshakes for invented names while callers send requests. The work is counted, not timed.
"""

import asyncio
import secrets
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from addons.net.certificates import Certificates, Names
from connector_store.cache import Lru
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target
from connector_store.token_bucket import TokenBucketBySource
from lab.certificates import KeyPair
from tests.addons.net.test_client_hello import client_hello
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import PATIENCE, until

STRANGERS: Final = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
HANDSHAKES: Final = 250
"""Handshakes of each stranger, at least: 1,000 in all."""
CONCURRENT_HANDSHAKES: Final = 5
"""Handshakes of each stranger at the same time."""
BURST: Final = 20
"""New certificates of one address, fewer than by default, because each costs milliseconds."""
MAX_UNACCEPTED: Final = 30
"""Certificates that the cache for strangers holds, fewer than they use up."""
CONNECTORS: Final = 4
KNOWN: Final = ("c-k8s-0.team-a", "c-k8s-1.team-a", "c-k8s-0.team-a.svc")
"""Aliases by which callers were accepted before the strangers came."""
NEW: Final = ("c-k8s-2.team-a", "c-k8s-3.team-a", "c-k8s-3.team-a.svc")
CALLS: Final = 5
"""Calls by each alias while the strangers make handshakes."""
PLACEHOLDER: Final = "0123456789abcdef"
"""Part of the server name in `HELLO` that is replaced by random text of the same length."""
HELLO: Final = client_hello(f"c-{PLACEHOLDER}.team-a")


async def call(proxy: Proxy, alias: str, source: str = "127.0.0.1") -> bytes:
    """Send a request by a new connection, which verifies the proxy's certificate. Return the certificate."""
    client = ClientConnection(*await asyncio.open_connection("127.0.0.1", proxy.port, local_addr=(source, 0)))
    await proxy.start_tls(client, alias)
    token = proxy.token(f"team-a/{alias.split('.')[0].removeprefix('c-')}")
    await client.send(f"GET /api HTTP/1.1\r\nHost: {alias}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert (await client.read_response()).status == 200
    certificate: bytes = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    client.close()
    return certificate


async def start_handshake(port: int, source: str) -> bool:
    """Send a ClientHello with an invented name. Return True if the proxy answers with a certificate for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        name = secrets.token_hex(len(PLACEHOLDER) // 2)
        writer.write(HELLO.replace(PLACEHOLDER.encode(), name.encode()))
        return bool(await asyncio.wait_for(reader.read(1), PATIENCE))
    except ConnectionResetError:
        return False
    finally:
        writer.transport.abort()


class Strangers:
    """Four strangers that make handshakes until `stop` is called, each at least HANDSHAKES."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_stopped = False
        self.handshakes = Counter[str]()
        self.certificates = Counter[str]()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for source in STRANGERS * CONCURRENT_HANDSHAKES:
                tasks.create_task(self._make_handshakes(source))

    def stop(self) -> None:
        self._is_stopped = True

    async def _make_handshakes(self, source: str) -> None:
        while self.handshakes[source] < HANDSHAKES or not self._is_stopped:
            self.handshakes[source] += 1
            has_certificate = await start_handshake(self._port, source)
            self.certificates[source] += has_certificate


def limit_new_certificates(certificates: Certificates) -> None:
    """Give each address a burst of new certificates that is never refilled, so no handshake waits."""
    certificates._limit = TokenBucketBySource(rate=1e-9, burst=BURST, now=lambda: 0.0)
    certificates._unaccepted = Lru[Names, Any](MAX_UNACCEPTED)


@pytest.mark.slow
async def test_four_strangers_with_a_thousand_handshakes_keep_no_caller_out(
    tmp_path: Path, confdir: Path, target: FakeTarget, target_ca: KeyPair
) -> None:
    folder = tmp_path / "connectors"
    folder.mkdir()
    names = [f"k8s-{number}" for number in range(CONNECTORS)]
    address = f"https://127.0.0.1:{target.port}"
    write(folder, *(connector(name, address) for name in names), secret(ca=target_ca.pem))
    async with running_proxy(folder, confdir) as proxy:
        store, certificates = proxy.context.store, proxy.context.certificates
        limit_new_certificates(certificates)
        await until(lambda: all(isinstance(store.get(ObjectKey("team-a", name)), Target) for name in names))
        before = {alias: await call(proxy, alias) for alias in KNOWN}

        strangers = Strangers(proxy.port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(strangers.run())
            await until(lambda: set(strangers.certificates) == set(STRANGERS) and certificates.refusal_count)
            during = [{alias: await call(proxy, alias) for alias in (*KNOWN, *NEW)} for _ in range(CALLS)]
            # At the address of a stranger, which gets no new certificate any more.
            shared = {alias: await call(proxy, alias, STRANGERS[0]) for alias in (*KNOWN, *NEW)}
            strangers.stop()

        assert all(each | before == each == shared for each in during), "accepted aliases keep their certificates"
        assert strangers.certificates == dict.fromkeys(STRANGERS, BURST), "each address has its own share"
        assert certificates.refusal_count == strangers.handshakes.total() - len(STRANGERS) * BURST
        assert len(certificates._unaccepted) <= MAX_UNACCEPTED
        assert len(certificates._accepted) == len({*before.values(), *during[0].values()})
