"""A closed live connection tells its client the reason if its protocol can. An expiring credential causes a warning."""

import json
import time
from dataclasses import replace

import pytest

from addons.relay import requests
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Refused
from connector_store.domain.credential.credentials import Credential
from connector_store.domain.objects.models import Target as Usable
from connector_store.folder.caller_tokens import TokenAccess
from tests.addons.access.test_live_connections import recheck_all
from tests.fakes.proxy import ClientConnection, Proxy
from tests.fakes.target import FakeTarget, TargetConnection

WATCH = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'16\r\n{"type":"ADDED","a":1}\r\n1\r\n\n\r\n'
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
EXEC = (
    b"GET /api/v1/namespaces/a/pods/b/exec HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)
KEY = ObjectKey("team-a", "k8s")

pytestmark = pytest.mark.usefixtures("gone_at_once")


async def send_request(proxy: Proxy, target: FakeTarget, line: bytes) -> ClientConnection:
    authority = f"127.0.0.1:{target.port}"
    stream = await proxy.tunnel(authority, f"team-a/k8s:{proxy.token('team-a/k8s')}")
    await stream.send(line.replace(b"HOST", authority.encode()))
    return stream


def serving(target: FakeTarget, answer: bytes) -> None:
    async def serve(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(answer)
        await conversation.read_some()

    target.handler = serve


def delete(proxy: Proxy) -> None:
    (proxy.folder / "objects.yaml").unlink()


async def test_a_watch_ends_with_an_event_that_says_why(proxy: Proxy, target: FakeTarget) -> None:
    serving(target, WATCH)
    stream = await send_request(proxy, target, b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: HOST\r\n\r\n")
    await stream.reader.readuntil(b"}\n\r\n")
    delete(proxy)
    rest = await stream.read_to_eof()
    event = json.loads(rest.split(b"\r\n")[1])
    assert event["type"] == "ERROR"
    assert "its Connector was deleted" in event["object"]["message"]
    assert not rest.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("why", ["the Connector is deleted", "the caller's right is taken away"])
async def test_a_response_that_is_not_a_watch_gets_no_added_event(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    serving(target, WATCH)
    stream = await send_request(proxy, target, b"GET /api/v1/pods HTTP/1.1\r\nHost: HOST\r\n\r\n")
    await stream.reader.readuntil(b"}\n\r\n")
    if why == "the Connector is deleted":
        delete(proxy)
    else:
        monkeypatch.setattr(TokenAccess, "recheck_use", refuse)
        await recheck_all(proxy.context.live_connections)
    assert await stream.read_to_eof() == b""


async def refuse(*_: object) -> Refused:
    return Refused(check="use", reason="no role")


async def test_a_websocket_ends_with_a_close_frame_that_says_why(proxy: Proxy, target: FakeTarget) -> None:
    serving(target, SWITCH + b"\x82\x02ab")
    line = (
        b"GET /api/v1/namespaces/a/pods/b/exec HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    )
    stream = await send_request(proxy, target, line + b"\r\n")
    await stream.reader.readuntil(b"\x82\x02ab")
    delete(proxy)
    rest = await stream.read_to_eof()
    assert rest[:1] == b"\x88"
    assert int.from_bytes(rest[2:4]) == 1008
    assert rest[4:].startswith(b"its Connector was deleted")


async def test_a_websocket_that_is_closed_within_a_frame_gets_no_close_frame(proxy: Proxy, target: FakeTarget) -> None:
    serving(target, SWITCH + b"\x82\x05ab")
    line = (
        b"GET /api/v1/namespaces/a/pods/b/exec HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    )
    stream = await send_request(proxy, target, line + b"\r\n")
    await stream.reader.readuntil(b"\x82\x05ab")
    delete(proxy)
    assert await stream.read_to_eof() == b""


WARNING = '299 kubernetes-connector "the credential of Connector team-a/k8s expires in 3 h; renew Secret secret"'


async def test_a_caller_is_warned_once_a_minute_of_a_credential_that_expires_soon(
    proxy: Proxy, target: FakeTarget
) -> None:
    expire_soon(proxy)
    authority = f"127.0.0.1:{target.port}"
    request = f"GET /api HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()
    warnings = []
    for _ in range(2):
        stream = await proxy.tunnel(authority, f"team-a/k8s:{proxy.token('team-a/k8s')}")
        for _ in range(2):
            await stream.send(request)
            warnings.append((await stream.read_response()).headers.get("warning"))
    assert warnings == [WARNING, None, None, None]


async def test_each_connection_is_warned_if_the_last_warning_is_a_minute_old(
    proxy: Proxy, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "EXPIRY_WARNING_INTERVAL", 0.0)
    expire_soon(proxy)
    authority = f"127.0.0.1:{target.port}"
    for _ in range(2):
        stream = await proxy.tunnel(authority, f"team-a/k8s:{proxy.token('team-a/k8s')}")
        await stream.send(f"GET /api HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        assert (await stream.read_response()).headers["warning"] == WARNING


async def test_a_response_that_clients_cache_has_no_expiry_warning_and_the_next_one_has(
    proxy: Proxy, target: FakeTarget
) -> None:
    async def serve(conversation: TargetConnection) -> None:
        for validator in (b'ETag: "1"\r\n', b"", b""):
            await conversation.read_head()
            await conversation.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: 0\r\n\r\n" % validator)

    target.handler = serve
    expire_soon(proxy)
    authority = f"127.0.0.1:{target.port}"
    stream = await proxy.tunnel(authority, f"team-a/k8s:{proxy.token('team-a/k8s')}")
    warnings = []
    for _ in range(3):
        await stream.send(f"GET /api HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        warnings.append("warning" in (await stream.read_response()).headers)
    assert warnings == [False, True, False]


def expire_soon(proxy: Proxy) -> None:
    """Let the target's credential expire in three and a half hours."""
    store = proxy.context.store
    target_of_connector = store.get(KEY)
    assert isinstance(target_of_connector, Usable)
    credential = Credential(b"Bearer s3cret", time.time() + 3.5 * 3600)
    store._resolved[KEY] = replace(target_of_connector, credential=credential)
