"""Documents from a real https server."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_store.oidc.fetch import MAX_DOCUMENT_BYTES, FetchError, HttpsFetcher
from connector_store.trust import TrustStore
from lab.certificates import make_ca
from lab.oidc_issuer import TestIssuer


@pytest.fixture(scope="module")
def issuer() -> Iterator[TestIssuer]:
    with TestIssuer() as issuer:
        yield issuer


def fetch_for(issuer: TestIssuer, *, timeout: float = 30.0) -> HttpsFetcher:
    return HttpsFetcher(TrustStore().ssl_context(issuer.ca.pem), timeout=timeout)


async def test_a_document_is_fetched(issuer: TestIssuer) -> None:
    issuer.responses["/a"] = (200, {}, b'{"a": 1}')
    assert await fetch_for(issuer)(issuer.url + "/a") == {"a": 1}


async def test_a_redirect_on_the_same_host_is_followed(issuer: TestIssuer) -> None:
    issuer.responses["/from"] = (302, {"Location": "/to"}, b"")
    issuer.responses["/to"] = (200, {}, b"[]")
    assert await fetch_for(issuer)(issuer.url + "/from") == []


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        pytest.param(404, {}, b"", "status 404", id="not found"),
        pytest.param(200, {}, b"<html>", "is not JSON", id="no JSON"),
        pytest.param(200, {}, b" " * (MAX_DOCUMENT_BYTES + 1), "larger than", id="too large"),
        pytest.param(200, {}, b" " * 5_000_000, "larger than", id="5 MB"),
        pytest.param(302, {"Location": "https://elsewhere.example/"}, b"", "another host", id="to another host"),
        pytest.param(302, {"Location": "http://127.0.0.1/"}, b"", "another host", id="to plain http"),
        pytest.param(302, {"Location": "/loop"}, b"", "more than 3 redirects", id="round and round"),
        pytest.param(200, {"Content-Length": "10"}, b"{}", "Error", id="a truncated response"),
    ],
)
async def test_invalid_responses_are_reported(
    issuer: TestIssuer, status: int, headers: dict[str, str], body: bytes, reason: str
) -> None:
    issuer.responses["/loop"] = (status, {**headers, "Connection": "close"}, body)
    with pytest.raises(FetchError, match=reason):
        await fetch_for(issuer)(issuer.url + "/loop")


async def test_an_untrusted_certificate_is_refused(issuer: TestIssuer) -> None:
    fetch = HttpsFetcher(TrustStore().ssl_context(make_ca("another").pem), timeout=30.0)
    with pytest.raises(FetchError, match="its certificate is not valid"):
        await fetch(issuer.url + "/a")


async def test_the_proxy_of_the_environment_gets_only_its_own_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heads: list[str] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    (tmp_path / "netrc").write_text("default login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(FetchError, match="ClientHttpProxyError"):
            await HttpsFetcher(TrustStore().ssl_context(None), timeout=30.0)("https://192.0.2.1/a")
    assert [head.splitlines()[0] for head in heads] == ["CONNECT 192.0.2.1:443 HTTP/1.1"]
    assert "authorization" not in heads[0].lower()


async def test_an_unreachable_server_is_reported() -> None:
    fetch = HttpsFetcher(TrustStore().ssl_context(None), timeout=30.0)
    with pytest.raises(FetchError, match="https://127"):
        await fetch("https://127.0.0.1:1/")


async def test_a_fetch_ends_at_its_timeout(issuer: TestIssuer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FetchError, match="no answer within"):
        await fetch_for(issuer, timeout=0.3)(f"https://127.0.0.1:{silent.getsockname()[1]}/")
