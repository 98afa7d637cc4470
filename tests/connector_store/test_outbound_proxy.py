"""Proxy of the environment for a URL."""

import pytest

from connector_store.outbound_proxy import proxy_from_environment

PROXY = "http://me:hunter2@proxy.example:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "no", "all"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme}_proxy".upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        pytest.param("https://10.0.0.1:6443", {}, None, id="nothing is set"),
        pytest.param("https://10.0.0.1:6443", {"HTTPS_PROXY": PROXY}, PROXY, id="upper case"),
        pytest.param("https://10.0.0.1:6443", {"https_proxy": PROXY}, PROXY, id="lower case"),
        pytest.param("https://10.0.0.1:6443", {"HTTP_PROXY": PROXY}, None, id="a proxy for http is not for https"),
        pytest.param("http://10.0.0.1", {"http_proxy": PROXY}, PROXY, id="a proxy for http is for http"),
        pytest.param("https://a.example", {"HTTPS_PROXY": "p:3128"}, "http://p:3128", id="a proxy without a scheme"),
    ],
)
def test_the_proxy_is_that_of_the_scheme(
    monkeypatch: pytest.MonkeyPatch, url: str, environ: dict[str, str], expected: str | None
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_from_environment(url) == expected


@pytest.mark.parametrize(
    ("url", "no_proxy", "direct"),
    [
        pytest.param("https://10.0.0.1:6443", "", False, id="nothing is near"),
        pytest.param("https://10.0.0.1:6443", "*", True, id="everything is near"),
        pytest.param("https://10.0.0.1:6443", "10.0.0.1", True, id="an address"),
        pytest.param("https://10.0.0.1:6443", "10.0.0.2", False, id="another address"),
        pytest.param("https://10.0.0.1:6443", "a.example, 10.0.0.0/8", True, id="a network"),
        pytest.param("https://10.0.0.1:6443", "10.0.0.1/8", True, id="a network by one of its addresses"),
        pytest.param("https://11.0.0.1:6443", "10.0.0.0/8,fd00::/8", False, id="an address of no network"),
        pytest.param("https://[fd00::1]:6443", "10.0.0.0/8,fd00::/8", True, id="a network of IPv6"),
        pytest.param("https://[fd00::1]:6443", "fd00::1", True, id="an address of IPv6"),
        pytest.param("https://10.0.0.1:6443", "10.0.0.1:6443", True, id="an address and its port"),
        pytest.param("https://10.0.0.1:6443", "10.0.0.1:443", False, id="an address and another port"),
        pytest.param("https://10.0.0.1", "10.0.0.1:443", True, id="an address and the scheme's port"),
        pytest.param("https://api.a.example", "a.example", True, id="a name and its subdomains"),
        pytest.param("https://api.a.example", ".a.example", True, id="subdomains of a name"),
        pytest.param("https://bad-a.example", "a.example", False, id="a name that only ends alike"),
        pytest.param("https://10.example", "10.0.0.0/8", False, id="a name is in no network"),
        pytest.param("https://127.0.0.1:6443", "", True, id="loopback"),
        pytest.param("https://[::1]:6443", "", True, id="loopback of IPv6"),
        pytest.param("https://localhost:6443", "", True, id="localhost"),
    ],
)
def test_loopback_and_no_proxy_hosts_bypass_the_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str, direct: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_from_environment(url) == (None if direct else PROXY)
