"""Documents of an issuer, from a real https server."""

import socket
from collections.abc import Iterator

import pytest

from connector_store.oidc.fetch import MAX_DOCUMENT, FetchError, HttpsFetch
from connector_store.trust import TrustStore
from lab.certificates import make_ca
from lab.issuer import TestIssuer


@pytest.fixture(scope="module")
def issuer() -> Iterator[TestIssuer]:
    with TestIssuer() as found:
        yield found


def fetch_for(issuer: TestIssuer, *, timeout: float = 30.0) -> HttpsFetch:
    return HttpsFetch(TrustStore().ssl_context(issuer.ca.pem), timeout=timeout)


async def test_a_document_is_read(issuer: TestIssuer) -> None:
    issuer.answers["/a"] = (200, {}, b'{"a": 1}')
    assert await fetch_for(issuer)(issuer.url + "/a") == {"a": 1}


async def test_a_redirect_on_the_same_host_is_followed(issuer: TestIssuer) -> None:
    issuer.answers["/from"] = (302, {"Location": "/to"}, b"")
    issuer.answers["/to"] = (200, {}, b"[]")
    assert await fetch_for(issuer)(issuer.url + "/from") == []


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        pytest.param(404, {}, b"", "status 404", id="not found"),
        pytest.param(200, {}, b"<html>", "is not JSON", id="no JSON"),
        pytest.param(200, {}, b" " * (MAX_DOCUMENT + 1), "larger than", id="too large"),
        pytest.param(200, {}, b" " * 5_000_000, "larger than", id="5 MB"),
        pytest.param(302, {"Location": "https://elsewhere.example/"}, b"", "another host", id="to another host"),
        pytest.param(302, {"Location": "http://127.0.0.1/"}, b"", "another host", id="to plain http"),
        pytest.param(302, {"Location": "/loop"}, b"", "more than 3 redirects", id="round and round"),
        pytest.param(200, {"Content-Length": "10"}, b"{}", "Error", id="an answer that is cut off"),
    ],
)
async def test_what_is_not_taken_is_said(
    issuer: TestIssuer, status: int, headers: dict[str, str], body: bytes, reason: str
) -> None:
    issuer.answers["/loop"] = (status, {**headers, "Connection": "close"}, body)
    with pytest.raises(FetchError, match=reason):
        await fetch_for(issuer)(issuer.url + "/loop")


async def test_a_certificate_of_somebody_else_is_refused(issuer: TestIssuer) -> None:
    fetch = HttpsFetch(TrustStore().ssl_context(make_ca("another").pem), timeout=30.0)
    with pytest.raises(FetchError, match="its certificate is not valid"):
        await fetch(issuer.url + "/a")


async def test_nobody_there_is_said() -> None:
    fetch = HttpsFetch(TrustStore().ssl_context(None), timeout=30.0)
    with pytest.raises(FetchError, match="https://127"):
        await fetch("https://127.0.0.1:1/")


async def test_it_waits_no_longer_than_it_may(issuer: TestIssuer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FetchError, match="no answer within"):
        await fetch_for(issuer, timeout=0.3)(f"https://127.0.0.1:{silent.getsockname()[1]}/")
