import ipaddress
import re
from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import (
    SETTINGS,
    AccessRule,
    Settings,
    environment_name,
    keys_read_once,
    option_name,
    parse_access,
    parse_settings,
)


def parse(explicit=None, environ=None, config_map=None, *, in_cluster=False) -> Settings:
    return parse_settings(
        explicit=explicit or {}, environ=environ or {}, config_map=config_map or {}, in_cluster=in_cluster
    )


def test_without_settings_the_defaults_apply() -> None:
    assert parse() == Settings()
    assert parse(in_cluster=True) == Settings(in_cluster=True)


def test_every_key_has_a_field() -> None:
    names = {key.replace("-", "_") for key in SETTINGS}
    assert set(Settings.__dataclass_fields__) - names == {"in_cluster", "unknown_keys", "follows_role_bindings"}


def test_these_settings_are_followed_without_a_restart() -> None:
    live = {key for key, setting in SETTINGS.items() if setting.live}
    assert live == {"namespaces", "targets-allow", "targets-deny", "probe-interval", "expiry-warning", "log-format"}


def test_live_settings_are_those_of_the_newer_value_and_the_others_stay() -> None:
    started = parse(config_map={"drain": "5", "targets-deny": "10.0.0.0/8", "wrong": "1"})
    newer = parse(
        config_map={"drain": "9", "namespaces": "RoleBinding", "log-format": "json", "access": "get:connectors"}
    )
    assert started.with_live(newer) == parse(
        config_map={"drain": "5", "namespaces": "RoleBinding", "log-format": "json"}
    )
    assert started.keys_awaiting_restart(newer, "addons") == ("access", "drain")
    assert started.keys_awaiting_restart(newer, "connector_csi") == ("access",)
    assert started.keys_awaiting_restart(newer, "connector_controller") == ()


def test_a_program_reads_a_setting_once_or_follows_it() -> None:
    assert keys_read_once("connector_csi") == (
        "audience",
        "access",
        "proxy-service",
        "proxy-tls",
        "cluster-domain",
        "system-namespace",
        "ca-configmap",
        "watch-timeout",
        "stale-after",
    )
    assert "drain" in keys_read_once("addons")
    assert "drain" not in keys_read_once("connector_controller")


def test_role_bindings_can_select_the_namespaces() -> None:
    settings = parse(config_map={"namespaces": " RoleBinding "})
    assert (settings.namespaces, settings.follows_role_bindings) == ((), True)
    assert not settings.serves("team-a")
    assert not parse(config_map={"namespaces": "team-a"}).follows_role_bindings


PACKAGES = Path(__file__).parents[4]


@pytest.mark.parametrize("program", ["addons", "connector_controller", "connector_csi", "connectorctl"])
def test_a_program_reads_only_settings_that_are_declared_for_it(program: str) -> None:
    sources = "\n".join(path.read_text() for path in (PACKAGES / program).rglob("*.py"))
    used = {name.replace("_", "-") for name in re.findall(r"\bsettings\.([a-z_]+)", sources)} & SETTINGS.keys()
    assert used
    assert {key for key in used if program not in SETTINGS[key].programs} == set()


def test_option_and_variable_of_a_key() -> None:
    assert option_name("probe-interval") == "connector_probe_interval"
    assert environment_name("probe-interval") == "CONNECTORS_PROBE_INTERVAL"


def test_the_proxy_host_is_the_dns_name_of_the_service() -> None:
    settings = parse(config_map={"proxy-service": "px.sys", "cluster-domain": "example.test"})
    assert settings.proxy_host == "px.sys.svc.example.test"
    assert parse(config_map={"proxy-service": ""}).proxy_host is None


def test_the_proxy_service_is_in_the_system_namespace_by_default() -> None:
    elsewhere = parse(environ={"CONNECTORS_SYSTEM_NAMESPACE": "platform"})
    assert elsewhere.proxy_host == "connectors-proxy.platform.svc.cluster.local"
    settings = parse(environ={"CONNECTORS_SYSTEM_NAMESPACE": "platform"}, config_map={"proxy-service": "px.sys"})
    assert settings.proxy_service == ObjectKey("sys", "px")


@pytest.mark.parametrize(
    ("explicit", "environ", "config_map", "drain"),
    [
        pytest.param({"drain": "1"}, {"CONNECTORS_DRAIN": "2"}, {"drain": "3"}, 1.0, id="--set wins"),
        pytest.param({}, {"CONNECTORS_DRAIN": "2"}, {"drain": "3"}, 2.0, id="then the environment"),
        pytest.param({}, {}, {"drain": "3"}, 3.0, id="then the ConfigMap"),
    ],
)
def test_precedence(explicit, environ, config_map, drain) -> None:
    assert parse(explicit, environ, config_map).drain == drain


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        pytest.param("audience", "https://proxy", "audience", "https://proxy", id="audience may be a URL"),
        pytest.param("access", "get:connectors", "access", AccessRule("get", "connectors"), id="Alauda's own rule"),
        pytest.param("access", "*:connectors/proxy", "access", AccessRule("*", "connectors", "proxy"), id="any verb"),
        pytest.param(
            "targets-allow",
            " 10.0.0.0/8, fd00::/8 ,",
            "targets_allow",
            (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")),
            id="networks with blanks and a last comma",
        ),
        pytest.param("targets-deny", "192.0.2.1", "targets_deny", (ipaddress.ip_network("192.0.2.1/32"),), id="one IP"),
        pytest.param("targets-deny", "", "targets_deny", (), id="no networks"),
        pytest.param("ca-file", "/etc/ca.pem", "ca_file", "/etc/ca.pem", id="a file"),
        pytest.param("ca-file", "", "ca_file", None, id="empty means no file"),
        pytest.param("proxy-service", "px.sys", "proxy_service", ObjectKey("sys", "px"), id="name.namespace"),
        pytest.param("proxy-tls", "true", "proxy_tls", True, id="TLS to the proxy"),
        pytest.param("proxy-tls", "false", "proxy_tls", False, id="no TLS to the proxy"),
        pytest.param("cluster-domain", "c.example", "cluster_domain", "c.example", id="another cluster domain"),
        pytest.param("system-namespace", "sys", "system_namespace", "sys", id="another namespace"),
        pytest.param("ca-secret", "connectors-proxy-ca", "ca_secret", "connectors-proxy-ca", id="a CA Secret"),
        pytest.param("ca-secret", "", "ca_secret", None, id="empty means mitmproxy's own CA"),
        pytest.param("ca-configmap", "ca", "ca_configmap", "ca", id="another ConfigMap"),
        pytest.param("watch-timeout", "30", "watch_timeout", 30.0, id="whole seconds"),
        pytest.param("watch-timeout", "3600", "stale_after", 7200.0, id="staleness follows long watches"),
        pytest.param("watch-timeout", "5", "stale_after", 600.0, id="and not short ones"),
        pytest.param("stale-after", "331", "stale_after", 331.0, id="a custom bound"),
        pytest.param("namespaces", " a, b ,a,", "namespaces", ("a", "b"), id="namespaces, each once"),
        pytest.param("namespaces", "", "namespaces", None, id="empty means all namespaces"),
        pytest.param(
            "namespaces",
            "a," + ",".join(f"n{number}" for number in range(499)) + ",a",
            "namespaces",
            ("a", *(f"n{number}" for number in range(499))),
            id="as many namespaces as are allowed",
        ),
        pytest.param("jwks-max-age", "86400", "jwks_max_age", 86400.0, id="a day"),
        pytest.param("log-format", "json", "log_format", "json", id="a form of log lines"),
        pytest.param("expiry-warning", "2592000", "expiry_warning", 2592000.0, id="a month"),
        pytest.param("probe-interval", "0.5", "probe_interval", 0.5, id="parts of a second"),
        pytest.param("ca-overlap", "0", "ca_overlap", 0.0, id="no overlap"),
        pytest.param("drain", " 86400\n", "drain", 86400.0, id="the longest, with a newline"),
    ],
)
def test_values(key, text, field, value) -> None:
    assert getattr(parse(config_map={key: text}), field) == value


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        pytest.param("stale-after", "330", "more than 330: watch-timeout and 30", id="sooner than a watch proves"),
        pytest.param(
            "namespaces",
            ",".join(f"n{number}" for number in range(501)),
            "has 501 namespaces, but the maximum is 500; leave it empty to serve all",
            id="too many namespaces",
        ),
        pytest.param("namespaces", "a,B", "'B' is not the name of a namespace", id="no namespace"),
        pytest.param("audience", "", "one word", id="no audience"),
        pytest.param("audience", "two words", "one word", id="two words"),
        pytest.param("access", "use", "VERB:RESOURCE[/SUBRESOURCE]", id="a verb alone"),
        pytest.param("access", "use:connectors/", "VERB:RESOURCE", id="an empty subresource"),
        pytest.param("targets-allow", "10.0.0.1/8", "host bits", id="host bits set"),
        pytest.param("targets-deny", "example.com", "write CIDRs as", id="a name"),
        pytest.param("targets-deny", "::ffff:10.0.0.0/104", "write it as IPv4", id="a mapped network"),
        pytest.param("proxy-service", "proxy", "NAME.NAMESPACE", id="no namespace"),
        pytest.param("proxy-service", "proxy.sys.svc", "NAME.NAMESPACE", id="a whole host name"),
        pytest.param("proxy-tls", "yes", "is not true or false", id="neither true nor false"),
        pytest.param("cluster-domain", "Cluster.Local", "lower case", id="upper case"),
        pytest.param("system-namespace", "a.b", "namespace", id="a namespace with a dot"),
        pytest.param("ca-secret", "no_underscore", "lower case", id="an underscore"),
        pytest.param("ca-configmap", "", "lower case", id="no ConfigMap"),
        pytest.param("watch-timeout", "5m", "number of seconds", id="a unit"),
        pytest.param("probe-interval", "0", "more than 0", id="an interval of zero"),
        pytest.param("log-format", "xml", "is not one of: auto, text, json", id="an unknown log format"),
        pytest.param("expiry-warning", "a week", "number of seconds", id="a warning in words"),
        pytest.param("expiry-warning", "31622401", "at most 31622400", id="a warning of more than a year"),
        pytest.param("drain", "-1", "number of seconds", id="a negative duration"),
        pytest.param("drain", "86401", "at most 86400", id="more than a day"),
        pytest.param("drain", "nan", "number of seconds", id="not a number"),
    ],
)
def test_an_invalid_value_is_named_with_its_key_and_source(key, text, message) -> None:
    sources = {
        f"--set {option_name(key)}": {"explicit": {key: text}},
        f"environment {environment_name(key)}": {"environ": {environment_name(key): text}},
        f"ConfigMap connectors-config key {key}": {"config_map": {key: text}},
    }
    for source, arguments in sources.items():
        with pytest.raises(ParseError) as caught:
            parse(**arguments)
        assert caught.value.path == source
        assert message in caught.value.reason


def test_an_unknown_option_is_refused_with_a_list_of_the_options() -> None:
    with pytest.raises(ParseError, match=r"connector_colour: is not a setting; .*connector_drain"):
        parse({"colour": "red"})


def test_variables_of_services_and_feature_flags_are_ignored() -> None:
    environ = {
        "CONNECTORS_SERVICE_HOST": "10.0.0.1",
        "CONNECTORS_PROXY_SERVICE_HOST": "10.0.0.1",
        "CONNECTORS_PROXY_SERVICE_PORT": "80",
        "CONNECTORS_PROXY_SERVICE_PORT_HTTP": "80",
        "CONNECTORS_PROXY_PORT": "tcp://10.0.0.1:80",
        "CONNECTORS_PROXY_PORT_80_TCP": "tcp://10.0.0.1:80",
        "CONNECTORS_PROXY_PORT_80_TCP_ADDR": "10.0.0.1",
        "CONNECTORCTL_SOURCE": "connectors",
        "HOME": "/",
    }
    assert parse(environ=environ, config_map={"enable-custom-ca-certs": "false"}) == Settings()


def test_unknown_keys_of_the_config_map_are_named() -> None:
    config_map = {"targets-denny": "10.0.0.0/8", "acces": "x", "enable-flag": "true", "audience": "mine"}
    assert parse(config_map=config_map) == Settings(audience="mine", unknown_keys=("acces", "targets-denny"))


@pytest.mark.parametrize("text", ["use:connectors/proxy", "get:connectors", "*:connectors"])
def test_an_access_rule_parses_from_its_own_text(text) -> None:
    assert str(parse_access(text)) == text


def test_served_namespaces() -> None:
    assert parse().serves("any")
    some = parse(config_map={"namespaces": "a,b"})
    assert (some.serves("a"), some.serves("c")) == (True, False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CONNECTORS_DRAIM", "environment CONNECTORS_DRAIM: is not a setting; did you mean CONNECTORS_DRAIN?"),
        ("CONNECTORS_Q", "environment CONNECTORS_Q: is not a setting"),
    ],
)
def test_an_unknown_variable_is_refused(name: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(environ={name: "3"})
    assert str(caught.value) == message
