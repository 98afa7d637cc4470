"""Options: what is wrong stops the start and says why; what would open a door is refused."""

from pathlib import Path

import pytest
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.test import taddons

from addons.relay.shared_context import Timeouts
from addons.server import options
from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import ClusterSource, FolderSource
from tests.fakes.proxy import Options


class Declares:
    def load(self, loader: object) -> None:
        options.declare(loader)  # type: ignore[arg-type]  # mitmproxy's test context is not typed


@pytest.fixture
def context(confdir: Path):
    with taddons.context(Proxyserver(), TlsConfig(), Declares(), options=Options(), loadcore=False) as context:
        context.options.confdir = str(confdir)
        yield context


def read() -> options.Config:
    return options.read_config(in_pod=False)


async def test_the_defaults_are_those_of_the_reference(context) -> None:
    config = read()
    assert config.admin == ("127.0.0.1", 9091)
    assert (config.recheck, config.timeouts) == (30, Timeouts(client=10, connect=10))
    assert config.keep_target == 15
    assert (config.max_header, config.max_connections, config.keep_body) == (65536, 1000, 65536)
    assert (config.source, config.flows, config.cut_expired) == (FolderSource("connectors"), "auto", False)
    assert config.audit_commands
    assert (config.audit, config.audit_refuses) == ("auto", False)
    assert config.explicit == {}


async def test_options_that_the_data_path_needs_are_set_and_cannot_change(context) -> None:
    assert context.options.http2 is False
    options.check_mitmproxy_options()
    context.options.http2 = True
    with pytest.raises(ParseError, match="http2: must stay false"):
        options.check_mitmproxy_options()


@pytest.mark.parametrize("name", ["ssl_insecure", "proxy_debug"])
async def test_options_that_would_reveal_the_credential_are_refused(context, name: str) -> None:
    setattr(context.options, name, True)
    with pytest.raises(ParseError, match=name):
        options.check_mitmproxy_options()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connector_recheck", "soon"),
        ("connector_recheck", "0"),
        ("connector_client_timeout", "-1"),
        ("connector_connect_timeout", "nan"),
        ("connector_keep_target", "-1"),
        ("connector_keep_target", "nan"),
        ("connector_keep_target", "never"),
        ("connector_max_header", "10"),
        ("connector_max_connections", "0"),
        ("connector_max_connections", "many"),
        ("connector_keep_body", "much"),
        ("connector_flows", "maybe"),
        ("connector_audit", "xml"),
        ("connector_audit_when_full", "drop"),
        ("connector_admin", "9091"),
        ("connector_source", "kubernetes:"),
        ("connector_sessions", "9092"),
        ("connector_sessions", "0.0.0.0:9092"),
        ("connector_sessions", "[::]:9092"),
        ("connector_sessions", "localhost:9092"),
    ],
)
async def test_a_wrong_value_is_named(context, name: str, value: str) -> None:
    setattr(context.options, name, value)
    with pytest.raises(ParseError, match=name):
        read()


async def test_keep_target_can_be_0(context) -> None:
    context.options.connector_keep_target = "0"
    assert read().keep_target == 0


async def test_in_a_pod_the_cluster_is_the_source(context) -> None:
    assert options.read_config(in_pod=True).source == ClusterSource()


async def test_shared_settings_that_are_options_are_passed_on(context) -> None:
    context.options.update(connector_audience="other")
    assert read().explicit == {"audience": "other"}


async def test_an_empty_admin_address_disables_the_admin_server(context) -> None:
    context.options.update(connector_admin="")
    assert read().admin is None


@pytest.mark.parametrize(
    ("value", "in_pod", "address"),
    [
        pytest.param("auto", True, ("127.0.0.1", 9092), id="a fixed port in a pod, for port-forward"),
        pytest.param("auto", False, ("127.0.0.1", 0), id="a free port on a laptop"),
        pytest.param("[::1]:9", False, ("::1", 9), id="an address"),
        pytest.param("", True, None, id="none"),
    ],
)
async def test_the_address_of_the_sessions_page(context, value: str, in_pod: bool, address: object) -> None:
    context.options.update(connector_sessions=value)
    assert options.read_config(in_pod=in_pod).sessions == address


@pytest.mark.parametrize(
    ("source", "in_pod", "local"),
    [
        pytest.param("connectors", False, True, id="a folder"),
        pytest.param("connectors", True, False, id="a folder in a pod"),
        pytest.param("kubernetes", False, False, id="a cluster"),
    ],
)
async def test_the_default_listen_address(context, source: str, in_pod: bool, local: bool) -> None:
    context.options.update(connector_source=source)
    assert options.listens_on_loopback(options.read_config(in_pod=in_pod), in_pod=in_pod) is local
    context.options.update(listen_host="0.0.0.0")  # noqa: S104 - nothing is bound
    assert not options.listens_on_loopback(options.read_config(in_pod=in_pod), in_pod=in_pod)


@pytest.mark.parametrize("mode", ["socks5", "reverse:https://192.0.2.1", "transparent"])
async def test_other_modes_are_refused(context, mode: str) -> None:
    context.options.update(mode=[mode])
    with pytest.raises(ParseError, match="is not served"):
        options.check_mitmproxy_options()
    context.options.update(mode=["regular@8082"])
    options.check_mitmproxy_options()
