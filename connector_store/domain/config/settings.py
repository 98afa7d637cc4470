"""Settings that the proxy, the controller and the CSI driver share.

The key `probe-interval` can be set in three places. The first one that has it wins:

1. the option `--set connector_probe_interval=…`
2. the environment variable `CONNECTORS_PROBE_INTERVAL`
3. the key `probe-interval` of the ConfigMap `connectors-config`

>>> parse_settings(explicit={}, environ={"CONNECTORS_DRAIN": "5"}, config_map={"drain": "9"}, in_cluster=True).drain
5.0
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, NamedTuple, get_args

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.expiry import DEFAULT_EXPIRY_WARNING
from connector_store.domain.base.names import ObjectKey, is_dns_label, is_dns_subdomain

LogFormat = Literal["auto", "text", "json"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

CONFIG_MAP: Final = "connectors-config"
MAX_SECONDS: Final = 86400.0
MAX_EXPIRY_WARNING: Final = 366 * 86400.0

STALE_MARGIN: Final = 30.0
"""Minimum difference between `stale-after` and `watch-timeout` in seconds.

A watch without events does not prove that it works until it ends.
"""

KEYS: Final[Mapping[str, str]] = {
    "audience": "audience that callers' tokens must carry",
    "access": "what a caller must be allowed, as verb:resource[/subresource] in connectors.alauda.io",
    "targets-allow": "CIDRs that targets may have although they are denied, separated by commas",
    "targets-deny": "CIDRs that no target may have, separated by commas; in a cluster on top of its own (see docs)",
    "ca-file": "PEM file with the CAs of targets that name none",
    "proxy-service": "Service of the proxy, as NAME.NAMESPACE; empty: Connectors get no Service",
    "proxy-tls": "kubeconfigs name the proxy by https: true or false",
    "cluster-domain": "DNS domain of the cluster",
    "system-namespace": "namespace of the proxy, the controller and their objects",
    "namespaces": "namespaces whose Connectors are served, separated by commas; empty: all",
    "ca-secret": "Secret in the system namespace with the proxy's CA; empty: the CA is mitmproxy's own",
    "ca-configmap": "ConfigMap in the system namespace with the public half of the CA",
    "watch-timeout": "seconds that one watch request lasts",
    "stale-after": "seconds without a working watch after which nothing of what it brought is served",
    "jwks-max-age": "seconds that an issuer's keys serve while it cannot be asked",
    "probe-interval": "seconds between two probes of a Connector",
    "expiry-warning": "seconds before its end from which a credential is warned about",
    "ca-overlap": "seconds that an old and a new CA are both published before the new one signs",
    "log-format": "form of log lines: text, json, or auto: text on a terminal, else json",
    "drain": "seconds that live streams have to end when a process stops",
}


class AccessRule(NamedTuple):
    """SubjectAccessReview that every caller must pass, in API group connectors.alauda.io."""

    verb: str
    resource: str
    subresource: str | None = None

    def __str__(self) -> str:
        return f"{self.verb}:{self.resource}" + (f"/{self.subresource}" if self.subresource else "")


_DEFAULT_ACCESS: Final = AccessRule("use", "connectors", "proxy")
_SYSTEM_NAMESPACE: Final = "connectors-system"
_PROXY_SERVICE: Final = "connectors-proxy"
_DEFAULT_PROXY_SERVICE: Final = ObjectKey(_SYSTEM_NAMESPACE, _PROXY_SERVICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Parsed settings, one field per key. Durations are in seconds."""

    audience: str = "connectors-proxy"
    access: AccessRule = _DEFAULT_ACCESS
    targets_allow: tuple[Network, ...] = ()
    targets_deny: tuple[Network, ...] = ()
    in_cluster: bool = False
    """True also denies addresses that no target in a cluster may have (see `address_policy.AddressPolicy`)."""
    ca_file: str | None = None
    proxy_service: ObjectKey | None = _DEFAULT_PROXY_SERVICE
    proxy_tls: bool = False
    cluster_domain: str = "cluster.local"
    system_namespace: str = _SYSTEM_NAMESPACE
    namespaces: tuple[str, ...] | None = None
    """Namespaces whose Connectors are served. None means all."""
    ca_secret: str | None = None
    ca_configmap: str = "connectors-proxy-ca"
    watch_timeout: float = 300.0
    stale_after: float = 600.0
    jwks_max_age: float = 21_600.0
    probe_interval: float = 60.0
    expiry_warning: float = DEFAULT_EXPIRY_WARNING
    ca_overlap: float = 600.0
    log_format: LogFormat = "auto"
    drain: float = 60.0

    def serves(self, namespace: str) -> bool:
        """Return True if the setting `namespaces` includes `namespace`."""
        return self.namespaces is None or namespace in self.namespaces

    @property
    def proxy_host(self) -> str | None:
        """DNS name of the proxy Service, or None without one."""
        if self.proxy_service is None:
            return None
        return f"{self.proxy_service.name}.{self.proxy_service.namespace}.svc.{self.cluster_domain}"


def option_name(key: str) -> str:
    """Return the proxy option of a key: `connector_probe_interval` for `probe-interval`."""
    return "connector_" + key.replace("-", "_")


def environment_name(key: str) -> str:
    """Return the environment variable of a key: `CONNECTORS_PROBE_INTERVAL` for `probe-interval`."""
    return "CONNECTORS_" + key.replace("-", "_").upper()


def parse_settings(
    *, explicit: Mapping[str, str], environ: Mapping[str, str], config_map: Mapping[str, str], in_cluster: bool
) -> Settings:
    """Parse all settings. ParseError names the first invalid one and where it was set.

    `explicit` and `config_map` use the keys of `KEYS`. Unknown keys of `config_map` belong to other programs and are
    ignored. An unknown key in `explicit` is an error. An unknown CONNECTORS_ variable in `environ` is an error too,
    except those that Kubernetes sets for Services, such as CONNECTORS_PROXY_SERVICE_HOST.
    """
    for key in explicit:
        if key not in KEYS:
            raise ParseError(option_name(key), "is not a setting; use one of: " + ", ".join(map(option_name, KEYS)))
    variables = [*map(environment_name, KEYS)]
    for name in sorted(environ):
        if name.startswith("CONNECTORS_") and name not in variables and not _SERVICE_VARIABLE.fullmatch(name):
            raise ParseError(f"environment {name}", f"is not a setting{suggest_key(name, variables)}")
    reader = _SettingsReader(explicit, environ, config_map)
    default = Settings()
    system_namespace = reader.value("system-namespace", _parse_namespace, default.system_namespace)
    proxy_service: ObjectKey | None = ObjectKey(system_namespace, _PROXY_SERVICE)
    watch_timeout = reader.value("watch-timeout", _parse_positive_seconds, default.watch_timeout)
    return Settings(
        audience=reader.value("audience", _parse_word, default.audience),
        access=reader.value("access", parse_access, default.access),
        targets_allow=reader.value("targets-allow", _parse_networks, ()),
        targets_deny=reader.value("targets-deny", _parse_networks, ()),
        in_cluster=in_cluster,
        ca_file=reader.value("ca-file", _parse_optional(str), None),
        proxy_service=reader.value("proxy-service", _parse_optional(_parse_service), proxy_service),
        proxy_tls=reader.value("proxy-tls", _parse_boolean, default.proxy_tls),
        cluster_domain=reader.value("cluster-domain", _parse_subdomain, default.cluster_domain),
        system_namespace=system_namespace,
        namespaces=reader.value("namespaces", _parse_namespaces, None),
        ca_secret=reader.value("ca-secret", _parse_optional(_parse_subdomain), None),
        ca_configmap=reader.value("ca-configmap", _parse_subdomain, default.ca_configmap),
        watch_timeout=watch_timeout,
        stale_after=reader.value(
            "stale-after",
            _parse_seconds_above(watch_timeout + STALE_MARGIN),
            max(default.stale_after, 2 * watch_timeout),
        ),
        jwks_max_age=reader.value("jwks-max-age", _parse_positive_seconds, default.jwks_max_age),
        probe_interval=reader.value("probe-interval", _parse_positive_seconds, default.probe_interval),
        expiry_warning=reader.value("expiry-warning", _parse_expiry_warning, default.expiry_warning),
        ca_overlap=reader.value("ca-overlap", _parse_seconds, default.ca_overlap),
        log_format=reader.value("log-format", parse_log_format, default.log_format),
        drain=reader.value("drain", _parse_seconds, default.drain),
    )


def suggest_key(name: str, candidates: Iterable[str]) -> str:
    """Return `; did you mean X?` for the candidate most similar to `name`, or an empty string."""
    matches = get_close_matches(name, [*candidates], n=1, cutoff=0.8)
    return f"; did you mean {matches[0]}?" if matches else ""


# Kubernetes, pkg/kubelet/envvars.
_SERVICE_VARIABLE = re.compile(
    r"CONNECTORS(_[A-Z0-9_]+)?_"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class _SettingsReader:
    def __init__(self, explicit: Mapping[str, str], environ: Mapping[str, str], config_map: Mapping[str, str]) -> None:
        self._explicit = explicit
        self._environ = environ
        self._config_map = config_map

    def value[T](self, key: str, parse: Callable[[str], T], default: T) -> T:
        entry = self._lookup(key)
        if entry is None:
            return default
        source, text = entry
        try:
            return parse(text.strip())
        except ValueError as error:
            reason = error.reason if isinstance(error, ParseError) else str(error)
            raise ParseError(source, reason) from error

    def _lookup(self, key: str) -> tuple[str, str] | None:
        if key in self._explicit:
            return f"--set {option_name(key)}", self._explicit[key]
        variable = environment_name(key)
        if variable in self._environ:
            return f"environment {variable}", self._environ[variable]
        if key in self._config_map:
            return f"ConfigMap {CONFIG_MAP} key {key}", self._config_map[key]
        return None


_ACCESS_RULE = re.compile(r"([a-z]+|\*):([a-z]+)(?:/([a-z]+))?")
_WORD = re.compile(r"[!-~]+")
_SECONDS = re.compile(r"[0-9]{1,5}(\.[0-9]{1,6})?")
_LONG_SECONDS = re.compile(r"[0-9]{1,8}")


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
    for name in names:
        if not is_dns_label(name):
            raise ParseError("", f"{name!r} is not the name of a namespace (RFC 1123 label)")
    return tuple(dict.fromkeys(names)) or None


def _parse_positive_seconds(text: str) -> float:
    value = _parse_seconds(text)
    if value == 0:
        raise ParseError("", "must be more than 0 seconds")
    return value


def _parse_seconds_above(minimum: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = _parse_positive_seconds(text)
        if value <= minimum:
            raise ParseError("", f"must be more than {minimum:.0f}: watch-timeout and {STALE_MARGIN:.0f} seconds")
        return value

    return parse


def _parse_expiry_warning(text: str) -> float:
    """Parse seconds with a higher maximum, because people want a warning weeks before a certificate expires."""
    if _LONG_SECONDS.fullmatch(text) is None or float(text) > MAX_EXPIRY_WARNING:
        raise ParseError("", f"must be a number of seconds, at most {MAX_EXPIRY_WARNING:.0f}")
    return float(text)


def _parse_seconds(text: str) -> float:
    if _SECONDS.fullmatch(text) is None or float(text) > MAX_SECONDS:
        raise ParseError("", f"must be a number of seconds, at most {MAX_SECONDS:.0f}")
    return float(text)
