"""The kubeconfig of a workload: it has the shape of the API page, and parses to its entries."""

import base64
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import (
    KubeconfigEntry,
    KubeconfigStyle,
    build_kubeconfig,
    direct_url,
    parse_proxy_url,
    proxy_url,
    to_yaml,
)
from connector_store.domain.objects.models import Address

ENTRY = KubeconfigEntry(
    key=ObjectKey("team-a", "k8s"),
    address=Address(host="192.168.1.100", port=6443, prefix="/kubernetes/global"),
    proxy="http://c-k8s.team-a.svc.cluster.local",
    ca=b"-----PEM-----\n",
    token="eyJ.a-b_c",
)
LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
ENTRIES = st.builds(
    KubeconfigEntry,
    key=st.builds(ObjectKey, LABELS, LABELS),
    address=st.builds(
        Address,
        host=st.sampled_from(["h", "10.0.0.1", "fd00::1"]),
        port=st.integers(1, 65535),
        prefix=st.sampled_from(["", "/a/b"]),
    ),
    proxy=st.sampled_from(["http://p", "http://p:3128", "http://[::1]:8080/"]),
    ca=st.binary(max_size=60),
    token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter(lambda text: text != "x"),
)


def test_the_kubeconfig_has_the_shape_of_the_api_page() -> None:
    assert to_yaml(build_kubeconfig([ENTRY], KubeconfigStyle())) == (
        "apiVersion: v1\n"
        "kind: Config\n"
        "clusters:\n"
        "- name: k8s\n"
        "  cluster:\n"
        "    server: https://192.168.1.100:6443/kubernetes/global\n"
        "    proxy-url: http://team-a%2Fk8s:eyJ.a-b_c@c-k8s.team-a.svc.cluster.local:80\n"
        "    certificate-authority-data: LS0tLS1QRU0tLS0tLQo=\n"
        "contexts:\n"
        "- name: k8s\n"
        "  context:\n"
        "    cluster: k8s\n"
        "    user: k8s\n"
        "users:\n"
        "- name: k8s\n"
        "  user:\n"
        "    token: fake-token\n"
        "current-context: k8s\n"
    )


def test_the_rotating_form_has_the_token_in_a_file() -> None:
    config = build_kubeconfig([ENTRY], KubeconfigStyle(rotating=True))
    assert ":x@" in config["clusters"][0]["cluster"]["proxy-url"]
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}
    assert ENTRY.token not in to_yaml(config)


def test_several_entries_are_named_by_namespace_and_name_and_the_first_is_current() -> None:
    other = replace(ENTRY, key=ObjectKey("team-b", "k8s"))
    config = build_kubeconfig([other, ENTRY], KubeconfigStyle())
    assert [cluster["name"] for cluster in config["clusters"]] == ["team-b/k8s", "team-a/k8s"]
    assert config["contexts"][1] == {"name": "team-a/k8s", "context": {"cluster": "team-a/k8s", "user": "team-a/k8s"}}
    assert [user["name"] for user in config["users"]] == ["team-b/k8s", "team-a/k8s"]
    assert config["current-context"] == "team-b/k8s"


def test_the_proxy_may_be_reached_by_tls() -> None:
    entry = replace(ENTRY, proxy="https://localhost")
    assert proxy_url(entry, rotating=True) == "https://team-a%2Fk8s:x@localhost:443"


@given(st.lists(ENTRIES, min_size=1, max_size=3, unique_by=lambda entry: entry.key))
def test_every_kubeconfig_parses_to_its_entries(entries: list[KubeconfigEntry]) -> None:
    config = yaml.safe_load(to_yaml(build_kubeconfig(entries, KubeconfigStyle())))
    for entry, cluster in zip(entries, config["clusters"], strict=True):
        proxy = urlsplit(cluster["cluster"]["proxy-url"])
        assert unquote(proxy.username or "") == str(entry.key)
        assert unquote(proxy.password or "") == entry.token
        assert (proxy.hostname, proxy.port) == (urlsplit(entry.proxy).hostname, urlsplit(entry.proxy).port or 80)
        assert cluster["cluster"]["server"] == str(entry.address)
        assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == entry.ca


@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param("", id="nothing"),
        pytest.param("socks5://p", id="another protocol"),
        pytest.param("p:80", id="no scheme"),
        pytest.param("ftp://p:21", id="another scheme with a port"),
        pytest.param("http://", id="no host"),
        pytest.param("http://a b", id="a space"),
        pytest.param("http://u:p@h", id="credentials"),
        pytest.param("http://h/path", id="a path"),
        pytest.param("http://h:99999", id="a port out of range"),
        pytest.param("http://[::1", id="an open bracket"),
    ],
)
def test_a_proxy_url_that_is_invalid_is_refused(proxy: str) -> None:
    with pytest.raises(ParseError, match="http://HOST:PORT"):
        proxy_url(replace(ENTRY, proxy=proxy))


def test_a_proxy_has_a_scheme_a_host_and_a_port() -> None:
    assert parse_proxy_url("https://[::1]/") == ("https", "[::1]", 443)
    assert parse_proxy_url("http://p:3128") == ("http", "p", 3128)


TLS = replace(ENTRY, proxy="https://c-k8s.team-a.svc.cluster.local")


def test_with_tls_the_proxy_url_is_https() -> None:
    assert proxy_url(TLS) == "https://team-a%2Fk8s:eyJ.a-b_c@c-k8s.team-a.svc.cluster.local:443"
    assert proxy_url(replace(ENTRY, proxy="https://p:8443"), rotating=True) == "https://team-a%2Fk8s:x@p:8443"


@pytest.mark.parametrize(
    ("proxy", "server"),
    [
        pytest.param(ENTRY.proxy, "https://c-k8s.team-a.svc.cluster.local", id="the alias"),
        pytest.param(TLS.proxy, "https://c-k8s.team-a.svc.cluster.local", id="the alias with TLS"),
        pytest.param("http://c-k8s.team-a.svc.d:8080", "https://c-k8s.team-a.svc.d:8080", id="another port"),
        pytest.param("http://p.sys.svc.d", "https://p.sys.svc.d/connectors/team-a/k8s", id="the proxy's own Service"),
        pytest.param(
            "http://c-k8s.team-b.svc.d",
            "https://c-k8s.team-b.svc.d/connectors/team-a/k8s",
            id="the alias of another Connector",
        ),
        pytest.param("http://[::1]:8080", "https://[::1]:8080/connectors/team-a/k8s", id="an address"),
    ],
)
def test_in_the_direct_form_the_server_is_the_proxy(proxy: str, server: str) -> None:
    entry = replace(ENTRY, proxy=proxy)
    assert direct_url(entry) == server
    [cluster] = build_kubeconfig([entry], KubeconfigStyle(direct=True))["clusters"]
    assert cluster["cluster"].keys() == {"server", "certificate-authority-data"}


def test_the_direct_form_has_the_callers_token_itself_or_in_a_file() -> None:
    [user] = build_kubeconfig([ENTRY], KubeconfigStyle(direct=True))["users"]
    assert user["user"] == {"token": ENTRY.token}
    config = build_kubeconfig([ENTRY], KubeconfigStyle(direct=True, rotating=True, ca_file="ca.crt"))
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}
    assert config["clusters"][0]["cluster"]["certificate-authority"] == "ca.crt"
    assert ENTRY.token not in to_yaml(config)


def test_an_entry_hides_its_token_in_text() -> None:
    assert ENTRY.token not in repr(ENTRY)


def test_the_context_has_the_given_name_and_namespace() -> None:
    config = build_kubeconfig([ENTRY], KubeconfigStyle(context_name="team", namespace="web"))
    assert config["contexts"] == [{"name": "team", "context": {"cluster": "team", "user": "team", "namespace": "web"}}]
    assert config["current-context"] == "team"


def test_an_exec_plugin_replaces_every_token() -> None:
    style = KubeconfigStyle(exec_plugin=lambda key: {"command": "c", "args": [str(key)]})
    config = build_kubeconfig([ENTRY], style)
    assert config["users"][0]["user"] == {"exec": {"command": "c", "args": [str(ENTRY.key)]}}
    assert ENTRY.token not in repr(config)


def test_several_entries_ignore_the_context_name() -> None:
    other = replace(ENTRY, key=ObjectKey("b", "other"))
    assert build_kubeconfig([ENTRY, other], KubeconfigStyle(context_name="team"))["current-context"] == str(ENTRY.key)
