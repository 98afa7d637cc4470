"""Settings that the programs share. connectorctl reads only the environment.

A field of `Settings` declares each one, once. The key `probe-interval` can be set in three places. The first one that
has it wins:

1. the option `--set connector_probe_interval=…`
2. the environment variable `CONNECTORS_PROBE_INTERVAL`
3. the key `probe-interval` of the ConfigMap `connectors-config`

Programs follow a setting that is declared `live` without a restart (`Settings.with_live`).

>>> parse_settings(explicit={}, environ={"CONNECTORS_DRAIN": "5"}, config_map={"drain": "9"}, in_cluster=True).drain
5.0
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple, get_args

from connector_store.domain.base.errors import ParseError, parse_errors_at
from connector_store.domain.base.names import PROXY_AUDIENCE, ObjectKey, is_dns_label, is_dns_subdomain
from connector_store.domain.base.schema import suggest_name

LogFormat = Literal["auto", "text", "json"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Program = Literal["addons", "connector_controller", "connector_csi", "connectorctl"]

CONFIG_MAP: Final = "connectors-config"
BY_ROLE_BINDING: Final = "RoleBinding"
"""Value of the setting `namespaces` for the namespaces that have our RoleBinding. No namespace has capital letters."""
MAX_NAMESPACES: Final = 500
"""Maximum number of namespaces that the setting `namespaces` selects. Each costs 3 connections and 0.3 MB in a proxy,
and another 0.3 MB in the API server."""
MAX_SECONDS: Final = 86400.0
MAX_EXPIRY_WARNING: Final = 366 * 86400.0

STALE_MARGIN: Final = 30.0
"""Minimum difference between `stale-after` and `watch-timeout` in seconds.

A watch without events does not prove that it works until it ends.
"""


class AccessRule(NamedTuple):
    """SubjectAccessReview that every caller must pass, in API group connectors.alauda.io."""

    verb: str
    resource: str
    subresource: str | None = None

    def __str__(self) -> str:
        return f"{self.verb}:{self.resource}" + (f"/{self.subresource}" if self.subresource else "")


_ACCESS_RULE = re.compile(r"([a-z]+|\*):([a-z]+)(?:/([a-z]+))?")
_WORD = re.compile(r"[!-~]+")
_SECONDS = re.compile(r"[0-9]{1,8}(\.[0-9]{1,6})?")


def parse_access(text: str) -> AccessRule:
    """Parse `VERB:RESOURCE[/SUBRESOURCE]`. Raises ParseError for any other form."""
    match = _ACCESS_RULE.fullmatch(text)
    if match is None:
        raise ParseError("", "not of the form VERB:RESOURCE[/SUBRESOURCE]; the default is use:connectors/proxy")
    verb, resource, subresource = match.groups()
    return AccessRule(verb, resource, subresource)


def parse_log_format(text: str) -> LogFormat:
    """Parse a log format. Raises ParseError if it is unknown."""
    for choice in get_args(LogFormat):
        if text == choice:
            log_format: LogFormat = choice
            return log_format
    raise ParseError("", "is not one of: " + ", ".join(get_args(LogFormat)))


def _parse_optional[T](parse: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: parse(text) if text else None


def _parse_networks(text: str) -> tuple[Network, ...]:
    return tuple(_parse_network(part.strip()) for part in text.split(",") if part.strip())


def _parse_network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ParseError("", f"{error}; write CIDRs as 10.0.0.0/8,fd00::/8") from error
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ParseError("", f"{text} is an IPv4-mapped network; write it as IPv4")
    return network


def _parse_boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ParseError("", "is not true or false")
    return text == "true"


def _parse_word(text: str) -> str:
    if _WORD.fullmatch(text) is None:
        raise ParseError("", "must be one word of visible ASCII characters")
    return text


def _parse_service(text: str) -> ObjectKey:
    name, _, namespace = text.partition(".")
    if not is_dns_label(name) or not is_dns_label(namespace):
        raise ParseError("", "not of the form NAME.NAMESPACE")
    return ObjectKey(namespace, name)


def _parse_subdomain(text: str) -> str:
    if not is_dns_subdomain(text):
        raise ParseError("", "must be a DNS name in lower case (RFC 1123)")
    return text


def _parse_namespace(text: str) -> str:
    if not is_dns_label(text):
        raise ParseError("", "must be the name of a namespace (RFC 1123 label)")
    return text


def _parse_namespaces(text: str) -> tuple[str, ...] | None:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if names == [BY_ROLE_BINDING]:
        return (BY_ROLE_BINDING,)
    for name in names:
        if not is_dns_label(name):
            raise ParseError("", f"{name!r} is not the name of a namespace (RFC 1123 label), nor {BY_ROLE_BINDING}")
    unique = tuple(dict.fromkeys(names))
    if len(unique) > MAX_NAMESPACES:
        hint = "leave it empty to serve all namespaces"
        raise ParseError("", f"has {len(unique)} namespaces, but the maximum is {MAX_NAMESPACES}; {hint}")
    return unique or None


def parse_seconds(text: str, *, allow_zero: bool = False, maximum: float = MAX_SECONDS) -> float:
    """Parse a number of seconds, such as `0.5`. Raises ParseError if it is not one, or out of range."""
    value = float(text) if _SECONDS.fullmatch(text) else -1.0
    if not 0 <= value <= maximum:
        raise ParseError("", f"must be a number of seconds, at most {maximum:.0f}")
    if value == 0 and not allow_zero:
        raise ParseError("", "must be more than 0 seconds")
    return value


@dataclass(frozen=True, slots=True)
class Setting:
    """Declaration of a setting: its meaning, its parser, and the packages of the programs that read it."""

    help: str
    parse: Callable[[str], object]
    programs: tuple[Program, ...]
    live: bool
    """True if programs in a cluster follow a change of the ConfigMap without a restart."""


_PROXY: Final[tuple[Program, ...]] = ("addons",)
_CONTROLLER: Final[tuple[Program, ...]] = ("connector_controller",)
_CSI: Final[tuple[Program, ...]] = ("connector_csi",)
_CTL: Final[tuple[Program, ...]] = ("connectorctl",)
_IN_CLUSTER: Final = _PROXY + _CONTROLLER + _CSI
_ALL: Final = _IN_CLUSTER + _CTL
_SYSTEM_NAMESPACE: Final = "connectors-system"
_PROXY_SERVICE: Final = "connectors-proxy"


def _setting(
    parse: Callable[[str], object], programs: tuple[Program, ...], help_text: str, *, live: bool = False
) -> Mapping[str, Setting]:
    """Return the metadata of a field of `Settings`, whose name in kebab case is the key."""
    return {"setting": Setting(help_text, parse, programs, live)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Parsed settings. Durations are in seconds."""

    audience: str = field(
        default=PROXY_AUDIENCE, metadata=_setting(_parse_word, _ALL, "Audience that callers' tokens must have.")
    )
    access: AccessRule = field(
        default=AccessRule("use", "connectors", "proxy"),
        metadata=_setting(
            parse_access,
            _PROXY + _CSI + _CTL,
            "Right that a caller must have, as VERB:RESOURCE[/SUBRESOURCE] in connectors.alauda.io.",
        ),
    )
    access_request_hint: bool = field(
        default=True,
        metadata=_setting(
            _parse_boolean, _PROXY, "true: refusals tell callers who may create access requests how to ask for access."
        ),
    )
    lock_exempt_group: str | None = field(
        default=None,
        metadata=_setting(
            _parse_optional(_parse_word),
            _PROXY,
            "Group whose members no AccessLock locks out. If it is empty, none is.",
        ),
    )
    targets_allow: tuple[Network, ...] = field(
        default=(),
        metadata=_setting(
            _parse_networks,
            _PROXY + _CONTROLLER + _CTL,
            "CIDRs that targets may have although they are denied, separated by commas.",
            live=True,
        ),
    )
    targets_deny: tuple[Network, ...] = field(
        default=(),
        metadata=_setting(
            _parse_networks,
            _PROXY + _CONTROLLER + _CTL,
            "CIDRs that targets must not have, separated by commas. A proxy in a cluster denies more (see docs).",
            live=True,
        ),
    )
    in_cluster: bool = False
    """True also denies addresses that no target in a cluster may have (see `address_policy.AddressPolicy`)."""
    unknown_keys: tuple[str, ...] = ()
    """Keys of the ConfigMap that have no effect, without feature flags."""
    ca_file: str | None = field(
        default=None,
        metadata=_setting(
            _parse_optional(str), _PROXY + _CONTROLLER, "PEM file with the CAs of targets that do not name their own."
        ),
    )
    proxy_service: ObjectKey | None = field(
        default=ObjectKey(_SYSTEM_NAMESPACE, _PROXY_SERVICE),
        metadata=_setting(
            _parse_optional(_parse_service),
            _ALL,
            "Service of the proxy, as NAME.NAMESPACE. If it is empty, Connectors get no Service.",
        ),
    )
    proxy_tls: bool = field(
        default=False, metadata=_setting(_parse_boolean, _PROXY + _CSI, "true: kubeconfigs name the proxy by https.")
    )
    cluster_domain: str = field(
        default="cluster.local", metadata=_setting(_parse_subdomain, _ALL, "DNS domain of the cluster.")
    )
    system_namespace: str = field(
        default=_SYSTEM_NAMESPACE,
        metadata=_setting(_parse_namespace, _ALL, "Namespace of the proxy, the controller and their objects."),
    )
    namespaces: tuple[str, ...] | None = field(
        default=None,
        metadata=_setting(
            _parse_namespaces,
            _IN_CLUSTER,
            "Namespaces whose Connectors are served, separated by commas, or RoleBinding. If it is empty, all are.",
            live=True,
        ),
    )
    """None means all namespaces."""
    follows_role_bindings: bool = False
    """True if the setting is `BY_ROLE_BINDING`. `namespaces` are those with our RoleBinding then."""
    ca_secret: str | None = field(
        default=None,
        metadata=_setting(
            _parse_optional(_parse_subdomain),
            _PROXY + _CONTROLLER,
            "Secret in the system namespace with the proxy's CA. If it is empty, the proxy uses mitmproxy's own CA.",
        ),
    )
    ca_configmap: str = field(
        default="connectors-proxy-ca",
        metadata=_setting(
            _parse_subdomain, _CONTROLLER + _CSI, "ConfigMap in the system namespace with the CA's certificate."
        ),
    )
    watch_timeout: float = field(
        default=300.0, metadata=_setting(parse_seconds, _IN_CLUSTER, "Seconds that one watch request lasts.")
    )
    stale_after: float = field(
        default=600.0,
        metadata=_setting(
            parse_seconds, _IN_CLUSTER, "Seconds without a working watch after which its objects are not served."
        ),
    )
    jwks_max_age: float = field(
        default=21_600.0,
        metadata=_setting(
            parse_seconds, _PROXY, "Seconds that an issuer's keys are used while they cannot be fetched."
        ),
    )
    probe_interval: float = field(
        default=60.0,
        metadata=_setting(parse_seconds, _CONTROLLER, "Seconds between two probes of a Connector.", live=True),
    )
    expiry_warning: float = field(
        default=86400.0,
        metadata=_setting(
            partial(parse_seconds, allow_zero=True, maximum=MAX_EXPIRY_WARNING),
            _PROXY + _CONTROLLER + _CTL,
            "Seconds before a credential expires from which it is reported.",
            live=True,
        ),
    )
    ca_overlap: float = field(
        default=600.0,
        metadata=_setting(
            partial(parse_seconds, allow_zero=True),
            _CONTROLLER,
            "Seconds that the old and the new CA are both published before the new one signs.",
        ),
    )
    log_format: LogFormat = field(
        default="auto",
        metadata=_setting(
            parse_log_format,
            _IN_CLUSTER,
            "Format of log lines: text, json, or auto (text on a terminal, else json).",
            live=True,
        ),
    )
    drain: float = field(
        default=60.0,
        metadata=_setting(
            partial(parse_seconds, allow_zero=True),
            _PROXY,
            "Seconds that live connections have to end when the proxy stops.",
        ),
    )

    def serves(self, namespace: str) -> bool:
        """Return True if the setting `namespaces` includes `namespace`."""
        return self.namespaces is None or namespace in self.namespaces

    def with_live(self, newer: "Settings") -> "Settings":
        """Return these settings with the live ones of `newer`."""
        live = {_field_name(key): getattr(newer, _field_name(key)) for key, setting in SETTINGS.items() if setting.live}
        unknown_keys, follows_role_bindings = newer.unknown_keys, newer.follows_role_bindings
        return replace(self, unknown_keys=unknown_keys, follows_role_bindings=follows_role_bindings, **live)

    def keys_awaiting_restart(self, newer: "Settings", program: Program) -> tuple[str, ...]:
        """Return the keys whose change in `newer` takes effect at the next start of `program`."""
        return tuple(
            key
            for key in keys_read_once(program)
            if getattr(self, _field_name(key)) != getattr(newer, _field_name(key))
        )

    @property
    def proxy_host(self) -> str | None:
        """DNS name of the proxy Service, or None without one."""
        if self.proxy_service is None:
            return None
        return f"{self.proxy_service.name}.{self.proxy_service.namespace}.svc.{self.cluster_domain}"


SETTINGS: Final[Mapping[str, Setting]] = {
    field.name.replace("_", "-"): field.metadata["setting"] for field in fields(Settings) if field.metadata
}
"""Declarations by key."""


def keys_read_once(program: Program) -> tuple[str, ...]:
    """Return the keys of the settings that `program` reads at its start only. A change of them replaces its pods."""
    return tuple(key for key, setting in SETTINGS.items() if program in setting.programs and not setting.live)


def _field_name(key: str) -> str:
    return key.replace("-", "_")


def option_name(key: str) -> str:
    """Return the proxy option of a key: `connector_probe_interval` for `probe-interval`."""
    return "connector_" + key.replace("-", "_")


def environment_name(key: str) -> str:
    """Return the environment variable of a key: `CONNECTORS_PROBE_INTERVAL` for `probe-interval`."""
    return "CONNECTORS_" + key.replace("-", "_").upper()


def is_feature_flag(key: str) -> bool:
    """Return True for a flag of the Alauda product, whose ConfigMap has the same name. This product has no flags."""
    return key.startswith("enable-")


def parse_settings(
    *, explicit: Mapping[str, str], environ: Mapping[str, str], config_map: Mapping[str, str], in_cluster: bool
) -> Settings:
    """Parse all settings. ParseError names the first invalid one and where it was set.

    `explicit` and `config_map` use the keys of `SETTINGS`. Unknown keys of `config_map` become `unknown_keys`. They are
    not an error, because another product can use the same ConfigMap. An unknown key in `explicit` is an error. An
    unknown CONNECTORS_ variable in `environ` is an error too, except those that Kubernetes sets for Services, such as
    CONNECTORS_PROXY_SERVICE_HOST.
    """
    for key in explicit:
        if key not in SETTINGS:
            raise ParseError(option_name(key), "is not a setting; use one of: " + ", ".join(map(option_name, SETTINGS)))
    variables = [*map(environment_name, SETTINGS)]
    for name in sorted(environ):
        if name.startswith("CONNECTORS_") and name not in variables and not _SERVICE_VARIABLE.fullmatch(name):
            hint = suggest_name(name, variables, prefix="CONNECTORS")
            raise ParseError(f"environment {name}", f"is not a setting{hint}")
    values: dict[str, Any] = {}
    source_by_key: dict[str, str] = {}
    for key, setting in SETTINGS.items():
        variable = environment_name(key)
        for source, texts, name in (
            (f"--set {option_name(key)}", explicit, key),
            (f"environment {variable}", environ, variable),
            (f"ConfigMap {CONFIG_MAP} key {key}", config_map, key),
        ):
            if name in texts:
                with parse_errors_at(source):
                    values[_field_name(key)] = setting.parse(texts[name].strip())
                source_by_key[key] = source
                break
    unknown_keys = tuple(sorted(key for key in config_map.keys() - SETTINGS.keys() if not is_feature_flag(key)))
    return _derive(Settings(in_cluster=in_cluster, unknown_keys=unknown_keys, **values), source_by_key)


# Kubernetes, pkg/kubelet/envvars.
_SERVICE_VARIABLE = re.compile(
    r"CONNECTORS(_[A-Z0-9_]+)?_"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def _derive(settings: Settings, source_by_key: Mapping[str, str]) -> Settings:
    """Derive the defaults that depend on other settings, and check the minimum of `stale-after`."""
    if "proxy-service" not in source_by_key:
        settings = replace(settings, proxy_service=ObjectKey(settings.system_namespace, _PROXY_SERVICE))
    if settings.namespaces == (BY_ROLE_BINDING,):
        settings = replace(settings, namespaces=(), follows_role_bindings=True)
    minimum = settings.watch_timeout + STALE_MARGIN
    if "stale-after" not in source_by_key:
        settings = replace(settings, stale_after=max(settings.stale_after, 2 * settings.watch_timeout))
    elif settings.stale_after <= minimum:
        reason = f"must be more than {minimum:.0f}: watch-timeout and {STALE_MARGIN:.0f} seconds"
        raise ParseError(source_by_key["stale-after"], reason)
    return settings
