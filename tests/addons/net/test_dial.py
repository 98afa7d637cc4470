"""Reaching a target: addresses in turn, each with its share of the time; over real sockets."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.certificates import Issued, make_leaf
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import Answer, Proxy, running_proxy
from tests.fakes.target import Conversation, Target
from tests.fakes.waiting import until

KEY = "team-a/k8s"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose backlog is full: SYNs get no answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for each in fillers:
            each.close()


async def ask(proxy: Proxy, authority: str) -> Answer:
    client = await proxy.tunnel(authority, f"{KEY}:{proxy.token(KEY)}")
    await client.say(b"GET /api HTTP/1.1\r\nHost: %b\r\n\r\n" % authority.encode())
    answer = await client.answer()
    client.close()
    return answer


def point(folder: Path, address: str, ca: Issued) -> None:
    folder.mkdir(exist_ok=True)
    write(folder, connector("k8s", f"https://{address}"), secret(ca=ca.pem))


def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def test_a_target_that_refuses_is_a_502(tmp_path: Path, confdir: Path, target_ca: Issued) -> None:
    address = f"127.0.0.1:{closed_port()}"
    point(tmp_path / "connectors", address, target_ca)
    async with running_proxy(tmp_path / "connectors", confdir) as proxy:
        answer = await ask(proxy, address)
    assert answer.status == 502
    assert "connection refused" in answer.json()["message"]


async def test_a_target_that_answers_no_syn_is_a_504(
    tmp_path: Path, confdir: Path, target_ca: Issued, silent_port: int
) -> None:
    point(tmp_path / "connectors", f"127.0.0.1:{silent_port}", target_ca)
    async with running_proxy(tmp_path / "connectors", confdir, connector_connect_timeout="0.3") as proxy:
        answer = await ask(proxy, f"127.0.0.1:{silent_port}")
        await until(lambda: proxy.connections == 0)
    assert answer.status == 504


async def test_a_target_that_answers_no_tls_is_a_504(tmp_path: Path, confdir: Path, target_ca: Issued) -> None:
    async def silent(conversation: Conversation) -> None:
        while await conversation.some():
            pass

    async with Target(None, tmp_path, silent) as target:
        point(tmp_path / "connectors", f"127.0.0.1:{target.port}", target_ca)
        async with running_proxy(tmp_path / "connectors", confdir, connector_connect_timeout="0.3") as proxy:
            answer = await ask(proxy, f"127.0.0.1:{target.port}")
            await until(lambda: proxy.connections == 0)
    assert answer.status == 504
    assert b"Bearer" not in target.received


@pytest.mark.parametrize(
    ("hosts", "expired", "words"),
    [
        pytest.param(["other.example"], False, "IP address mismatch", id="for another host"),
        pytest.param(["127.0.0.1"], True, "certificate has expired", id="expired"),
        pytest.param(None, False, "self-signed", id="of another CA"),
    ],
)
async def test_a_certificate_that_is_not_valid_gets_no_token(
    tmp_path: Path, confdir: Path, target_ca: Issued, hosts: list[str] | None, expired: bool, words: str
) -> None:
    certificate = make_leaf(target_ca if hosts else None, hosts or ["127.0.0.1"], expired=expired)
    async with Target(certificate, tmp_path) as target:
        point(tmp_path / "connectors", f"127.0.0.1:{target.port}", target_ca)
        async with running_proxy(tmp_path / "connectors", confdir) as proxy:
            answer = await ask(proxy, f"127.0.0.1:{target.port}")
    assert answer.status == 502
    assert words in answer.json()["message"]
    assert target.received == b""


async def test_a_target_that_speaks_no_tls_is_named(tmp_path: Path, confdir: Path, target_ca: Issued) -> None:
    async def plain(conversation: Conversation) -> None:
        await conversation.some()
        await conversation.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Target(None, tmp_path, plain) as target:
        point(tmp_path / "connectors", f"127.0.0.1:{target.port}", target_ca)
        async with running_proxy(tmp_path / "connectors", confdir) as proxy:
            answer = await ask(proxy, f"127.0.0.1:{target.port}")
    assert answer.status == 502
    assert "does not speak TLS" in answer.json()["message"]


async def test_addresses_are_tried_in_turn_and_denied_ones_left_out(
    tmp_path: Path, confdir: Path, target: Target, target_ca: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = ["127.0.0.9", "127.0.0.8", "127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", _answering(socket.getaddrinfo, resolved))
    address = f"localhost:{target.port}"
    point(tmp_path / "connectors", address, target_ca)
    denied = "127.0.0.9/32"
    async with running_proxy(tmp_path / "connectors", confdir, connector_targets_deny=denied) as proxy:
        assert (await ask(proxy, address)).status == 200
    assert len(target.conversations) == 1


async def test_a_name_with_only_denied_addresses_is_a_503_that_names_them(
    tmp_path: Path, confdir: Path, target: Target, target_ca: Issued
) -> None:
    address = f"localhost:{target.port}"
    point(tmp_path / "connectors", address, target_ca)
    denied = "127.0.0.0/8,::1/128"
    async with running_proxy(tmp_path / "connectors", confdir, connector_targets_deny=denied) as proxy:
        answer = await ask(proxy, address)
    assert answer.status == 503
    assert "127.0.0.1" in answer.json()["message"]
    assert target.conversations == []


async def test_a_name_that_is_not_there_is_a_502(tmp_path: Path, confdir: Path, target_ca: Issued) -> None:
    address = "absent.invalid:6443"
    point(tmp_path / "connectors", address, target_ca)
    async with running_proxy(tmp_path / "connectors", confdir) as proxy:
        answer = await ask(proxy, address)
    assert answer.status == 502
    assert "cannot be resolved" in answer.json()["message"]


def _answering(real: object, addresses: list[str]) -> object:
    def answer(host: str, port: object, *rest: object, **options: object) -> object:
        if host == "localhost":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]
        return real(host, port, *rest, **options)  # type: ignore[operator]  # socket.getaddrinfo

    return answer
