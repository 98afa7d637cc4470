"""Distinctive secrets go into the proxy, and all its output is searched for them."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.folder.signing_key import KEY_FILE
from lab.certificates import KeyPair, make_ca, make_leaf
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy
from tests.fakes import manifests
from tests.fakes.target import FakeTarget, TargetConnection

TARGET_TOKEN = "canary-target-5f2c9d1e7ab84360"
BROKEN_TOKEN = "canary-broken 91c04b7de6f2"
WRONG_TOKEN = "canary-caller-73e1d0f4b9a25c68"
INNER_TOKEN = "canary-inner-0b6d8f31c47e92a5"
KEY = ObjectKey("team-a", "good")

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Client with raw sockets that records the responses."""

    proxy: RunningProxy
    authority: str
    responses: list[bytes]

    async def exchange(self, first: bytes, inside: bytes = b"") -> bytes:
        """Send `first`. If that opens a tunnel, send `inside` in TLS. Return all received bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        received = b""
        async with asyncio.timeout(WAIT_TIMEOUT):
            writer.write(first)
            if inside:
                received += await reader.readuntil(b"\r\n\r\n")
                context = ssl.create_default_context(cadata=self.proxy.ca_pem().decode())
                await writer.start_tls(context, server_hostname="127.0.0.1")
                writer.write(inside)
            try:
                while data := await reader.read(65536):
                    received += data
            except OSError:
                pass
        writer.transport.abort()
        self.responses.append(received)
        return received

    def connect(self, name: str, token: str, *, authority: str = "") -> bytes:
        login = base64.b64encode(f"team-a/{name}:{token}".encode())
        address = (authority or self.authority).encode()
        return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic %b\r\n\r\n" % (address, address, login)

    def request(self, line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
        head = [line + b" HTTP/1.1", b"Host: " + self.authority.encode(), b"Connection: close", *fields]
        if body:
            head.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join([*head, b"", body])


async def respond_by_path(conversation: TargetConnection) -> None:
    """Respond by path: 200, 401, garbage, half a response, nothing."""
    head = await conversation.read_head()
    if b"/refuse" in head:
        await conversation.send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    elif b"/garbage" in head:
        await conversation.send(b"\x00\x01 not http\r\n\r\n")
    elif b"/half" in head:
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    elif b"/silent" not in head:
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


def write(proxy: RunningProxy, port: int, ca: KeyPair) -> None:
    good = f"https://127.0.0.1:{port}"
    for name, token, address, trusted in (
        ("good", TARGET_TOKEN, good, ca),
        ("untrusted", TARGET_TOKEN, good, make_ca("another")),
        ("away", TARGET_TOKEN, "https://127.0.0.1:1", ca),
        ("broken", BROKEN_TOKEN, good, ca),
    ):
        secret_object = manifests.secret(name, token=token, ca=trusted.pem)
        proxy.write(f"{name}.yaml", manifests.connector(name, address, secret=name), secret_object)
    draft = proxy.home / "draft"
    draft.write_text(f"kind: Secret\nstringData: {{token: {TARGET_TOKEN}\n  : [\n")
    draft.replace(proxy.manifests / "unreadable.yaml")


async def exercise(caller: Caller, token: str) -> None:
    """Make every kind of request that could reveal a token."""
    request, connect = caller.request, caller.connect
    inner = b"Authorization: Bearer " + INNER_TOKEN.encode()
    assert b"200 OK" in await caller.exchange(connect("good", token), request(b"GET /api", inner))
    assert b"200 OK" in await caller.exchange(connect("good", token), request(b"POST /api?token=x", inner, body=b"{}"))
    assert b"502 Bad Gateway" in await caller.exchange(connect("good", token), request(b"GET /refuse", inner))
    for path in (b"/garbage", b"/half", b"/silent"):
        await caller.exchange(connect("good", token), request(b"GET " + path, inner))
    assert b"403 Forbidden" in await caller.exchange(connect("good", token), request(b"GET /", b"Impersonate-User: a"))
    assert b" 400 " in await caller.exchange(
        connect("good", token), b"GET / HTTP/1.1\r\nHost : x\r\n" + inner + b"\r\n\r\n"
    )
    assert b" 401 " in await caller.exchange(connect("good", "x"), request(b"GET /api", inner))
    assert b" 407 " in await caller.exchange(connect("good", WRONG_TOKEN))
    assert b" 407 " in await caller.exchange(
        b"CONNECT h:1 HTTP/1.1\r\nProxy-Authorization: " + WRONG_TOKEN.encode() + b"\r\n\r\n"
    )
    assert b" 403 " in await caller.exchange(connect("good", token, authority="elsewhere:443"))
    assert b" 403 " in await caller.exchange(
        b"GET http://h/?t=" + WRONG_TOKEN.encode() + b" HTTP/1.1\r\nHost: h\r\n\r\n"
    )
    assert b" 404 " in await caller.exchange(b"GET /x HTTP/1.1\r\nHost: h\r\n" + inner + b"\r\n\r\n")
    assert b" 401 " in await caller.exchange(b"GET /kubeconfig HTTP/1.1\r\nHost: h\r\n" + inner + b"\r\n\r\n")
    await caller.exchange(connect("good", token), b"not http at all " + WRONG_TOKEN.encode() + b"\r\n\r\n")
    for name in ("untrusted", "away"):
        own = caller.proxy.token(ObjectKey("team-a", name))
        authority = "127.0.0.1:1" if name == "away" else caller.authority
        response = await caller.exchange(
            connect(name, own, authority=authority),
            b"GET /api HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % authority.encode(),
        )
        assert b" 502 " in response
    own = caller.proxy.token(ObjectKey("team-a", "broken"))
    assert b" 503 " in await caller.exchange(connect("broken", own))


def spellings(secret: str) -> Iterator[bytes]:
    """Yield the secret as it is, and as base64 at each of the three offsets."""
    raw = secret.encode()
    yield raw
    for shift in range(3):
        yield base64.b64encode(b"\0" * shift + raw)[4 : -4 or None]


def key_lines(path: Path) -> list[str]:
    """Return the lines of the private key in a PEM file."""
    text = path.read_text()
    keys = text.partition("PRIVATE KEY-----\n")[2].partition("\n-----END")[0]
    return [each for each in keys.splitlines() if len(each) > 40]


@pytest.mark.parametrize(
    ("program", "watched"),
    [
        pytest.param("addons", False, id="the image's program"),
        pytest.param("mitmdump", False, id="mitmdump"),
        pytest.param("mitmdump", True, id="mitmdump with -w"),
    ],
)
async def test_no_secret_comes_out_of_the_proxy(tmp_path: Path, program: str, watched: bool) -> None:
    """The log has its most verbose level, with and without flows."""
    ca = make_ca()
    async with FakeTarget(make_leaf(ca, ["127.0.0.1"]), respond_by_path) as target:
        dump, home = tmp_path / "dump", tmp_path / "home"
        (home / "tmp").mkdir(parents=True)
        proxy = RunningProxy(
            home,
            environment={"HOME": str(home), "TMPDIR": str(home / "tmp")},
            options={"termlog_verbosity": "debug", "flow_detail": "4", "connector_connect_timeout": "60"},
            program=program,
            arguments=["-w", str(dump)] if watched else [],
        )
        write(proxy, target.port, ca)
        with proxy:
            token = proxy.token(KEY)
            caller = Caller(proxy=proxy, authority=f"127.0.0.1:{target.port}", responses=[])
            await exercise(caller, token)
            metrics = proxy.admin("/metrics")[1].encode()
            command = proxy.command_line()
            files = _read_files(proxy)
    assert f"Authorization: Bearer {TARGET_TOKEN}".encode() in target.received
    assert INNER_TOKEN.encode() not in target.received
    log = proxy.log.read_bytes()
    assert b"Loading script" in log
    assert (b"requests are shown as flows" if watched else b"requests are not shown as flows") in log
    outputs = {"metrics": metrics, "command": command} | files
    if watched:
        outputs["dump"] = dump.read_bytes()
        assert b"/api" in outputs["dump"]
    _search(proxy, outputs, caller.responses, token)


def _read_files(proxy: RunningProxy) -> dict[str, bytes]:
    """Return the files that the proxy wrote, also temporary ones, but its keys and the manifests."""
    excluded = {proxy.confdir, proxy.manifests}
    files = {}
    for each in proxy.home.rglob("*"):
        # A temporary file can go at any time.
        with contextlib.suppress(FileNotFoundError):
            if each.is_file() and not excluded & set(each.parents):
                files[str(each.relative_to(proxy.home))] = each.read_bytes()
    return files


def _search(proxy: RunningProxy, outputs: dict[str, bytes], responses: list[bytes], token: str) -> None:
    answers = {f"answer {number}": each for number, each in enumerate(responses)}
    places = outputs | answers | {f"{name} at the end": each for name, each in _read_files(proxy).items()}
    secrets = [TARGET_TOKEN, BROKEN_TOKEN, WRONG_TOKEN, INNER_TOKEN, token, token.rpartition(".")[2]]
    secrets += key_lines(proxy.confdir / "mitmproxy-ca.pem") + key_lines(proxy.confdir / KEY_FILE)
    assert {"proxy.log", "proxy.log at the end"} <= places.keys()
    for place, content in places.items():
        for number, secret in enumerate(secrets):
            for spelling in spellings(secret):
                assert spelling not in content, f"secret {number} is in {place}"


@pytest.mark.parametrize(
    ("option", "message"), [("proxy_debug", "prints what goes on the wire"), ("ssl_insecure", "always verified")]
)
def test_an_option_that_would_show_or_lose_a_secret_is_refused(tmp_path: Path, option: str, message: str) -> None:
    proxy = RunningProxy(tmp_path / "home", options={option: "true"})
    proxy.process.start()
    proxy.process.wait_until(lambda: not proxy.process.is_running, timeout=WAIT_TIMEOUT)
    assert message in proxy.log.read_text()
