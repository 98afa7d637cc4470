"""Options of the proxy, declared to mitmproxy and parsed once into a frozen `Config`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import mode_specs
from mitmproxy.utils import human

from addons.net.mitmproxy_private import deferred_values, is_text_option, is_unset, parse_value
from addons.relay.shared_context import Timeouts
from addons.sessions.server import check_loopback
from connector_store.admin import parse_listen_address
from connector_store.domain.base.errors import ParseError, parse_errors_at
from connector_store.domain.base.schema import suggest_name
from connector_store.domain.config.connector_source import ClusterSource, FolderSource, parse_source
from connector_store.domain.config.settings import SETTINGS, option_name, parse_seconds
from connector_store.domain.kubeconfig.own_names import parse_host_names

FORCED: Final[Mapping[str, Any]] = {
    "http2": False,
    "upstream_cert": False,
    "connection_strategy": "lazy",
    "validate_inbound_headers": True,
}
LOOPBACK: Final = "127.0.0.1"
"""Default listen address of a proxy with a folder as its source."""
SESSIONS_PORT: Final = 9092
"""Port of the sessions page in a pod."""
REFUSED: Final[Mapping[str, str]] = {
    "ssl_insecure": "targets' certificates are always verified; name their CA in the Secret's ca.crt",
    "proxy_debug": "it prints what goes on the wire, credentials included",
}
DEFAULTS: Final[Mapping[str, Any]] = {"block_global": False, "onboarding": False, "flow_detail": 0}

_OPTIONS: Final[tuple[tuple[str, type, Any, str], ...]] = (
    ("connector_source", str, "auto", "Source of the Connectors: kubernetes, kubernetes:CONTEXT, or a folder of "
     "manifests. auto: kubernetes in a pod, else ./connectors."),
    ("connector_authentication", str, "", "File with an AuthenticationConfiguration: issuers of callers from outside."),
    ("connector_recheck", str, "30", "Seconds for which a positive review is reused, and between checks of a live "
     "connection's caller."),
    ("connector_outage_grace", str, "300", "Seconds for which a positive review is used after connector_recheck, while "
     "the API server cannot be asked. 0: none."),
    ("connector_cut_expired", bool, False, "Close live connections of a ServiceAccount when its token expires."),
    ("connector_forwarded_for", bool, True, "Send the client's address to targets in X-Forwarded-For."),
    ("connector_flows", str, "auto", "Show requests as flows of mitmproxy: on, off, or auto (when a UI is attached)."),
    ("connector_keep_body", str, "64k", "Size of the part of each body that a flow keeps."),
    ("connector_keep_secrets", bool, False, "Keep the bodies of Secrets and of issued tokens in flows."),
    ("connector_audit", str, "auto", "Format of the audit records: json, text, or auto (text on a terminal)."),
    ("connector_audit_when_full", str, "count", "Reaction to an audit log that is not read: count lost records, or "
     "refuse requests."),
    ("connector_audit_commands", bool, True, "Write the command of an exec into its audit record."),
    ("connector_admin", str, "127.0.0.1:9091", "Address of /healthz, /readyz and /metrics, HOST:PORT. Empty: none."),
    ("connector_sessions", str, "auto", "Address on loopback of the sessions page and its JSON, HOST:PORT. auto: "
     "127.0.0.1:9092 in a pod, else 127.0.0.1 with a free port. Empty: none."),
    ("connector_max_header", str, "65536", "Maximum bytes of a header block."),
    ("connector_client_timeout", str, "10", "Seconds for a complete CONNECT, for the client's TLS handshake, and for a "
     "tunnel without an accepted request."),
    ("connector_connect_timeout", str, "10", "Seconds to resolve a target's name, connect, and do the TLS handshake."),
    ("connector_keep_target", str, "15", "Seconds for which an idle connection to a target waits for a request of any "
     "caller. 0: it ends with its client's connection."),
    ("connector_max_unauthenticated", str, "1000", "Maximum connections without an authenticated caller."),
    ("connector_max_unauthenticated_per_address", str, "200", "Maximum of these connections from one source address."),
    ("connector_names", str, "", "More host names and addresses for the proxy's certificate, separated by commas, such "
     "as those of an ingress or a load balancer."),
    ("connector_max_connections", str, "1000", "Maximum connections of one caller to one Connector."),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Parsed options. Times are in seconds and sizes in bytes. `admin` is None without an admin server."""

    source: FolderSource | ClusterSource
    authentication: Path | None
    recheck: float
    outage_grace: float
    cut_expired: bool
    forwarded_for: bool
    flows: str
    keep_body: int
    keep_secrets: bool
    audit: str
    audit_refuses: bool
    """Requests are refused while their audit lines cannot be written."""
    audit_commands: bool
    admin: tuple[str, int] | None
    sessions: tuple[str, int] | None
    """Address of the sessions page, or None without one."""
    max_header: int
    timeouts: Timeouts
    keep_target: float
    """Seconds for which a connection to a target stays idle. 0 disables reuse."""
    max_unauthenticated: int
    max_unauthenticated_per_address: int
    max_connections: int
    names: tuple[str, ...]
    confdir: Path
    explicit: Mapping[str, str]
    """Settings shared with the other programs that were set as options, by key."""


def declare(loader: Loader) -> None:
    """Add the options, and set the options of mitmproxy that the data path needs.

    Raises ParseError for an invalid value. mitmproxy parses the values after this call and would print a traceback.
    """
    for name, kind, default, text in _OPTIONS:
        loader.add_option(name, kind, default, text)
    for key, setting in SETTINGS.items():
        loader.add_option(option_name(key), str, "", setting.help)
    _check_values()
    for name, value in FORCED.items():
        if not is_unset(ctx.options, name) and getattr(ctx.options, name) != value:
            raise _forced_error(name, value)
    ctx.options.update(**FORCED, **{name: value for name, value in DEFAULTS.items() if is_unset(ctx.options, name)})


def listens_on_loopback(config: Config, *, in_pod: bool) -> bool:
    """Return True if the proxy listens on loopback only: with a folder, outside of a pod, without a listen address."""
    return isinstance(config.source, FolderSource) and not in_pod and is_unset(ctx.options, "listen_host")


def check_mitmproxy_options() -> None:
    """Check the options of mitmproxy and the names of all options. Raises ParseError for values that are unsafe."""
    for name, reason in REFUSED.items():
        if getattr(ctx.options, name):
            raise ParseError(name, reason)
    for name, value in FORCED.items():
        if getattr(ctx.options, name) != value:
            raise _forced_error(name, value)
    for spec in ctx.options.mode:
        if mode_specs.ProxyMode.parse(spec).type_name != "regular":
            raise ParseError("mode", f"{spec} is not served; regular, regular@PORT and regular@HOST:PORT are")
    names = [each[0] for each in _OPTIONS] + [option_name(key) for key in SETTINGS]
    for name in ctx.options.deferred:
        if name.startswith("connector"):
            raise ParseError(name, f"is not an option{suggest_name(name, names, prefix='connector')}")


def listen_error(name: str, address: tuple[str, int], error: OSError) -> ParseError:
    """Return the error of the option `name` whose address cannot be used."""
    return ParseError(
        name,
        f"cannot listen at {address[0]}:{address[1]}: {os.strerror(error.errno or 0).lower()}; "
        f"choose another address with --set {name}=HOST:PORT, "
        f"or none with --set {name}= (connectorctl proxy: after --)",
    )


def _check_values() -> None:
    """Check the values of options that were set before they were declared. Raises ParseError."""
    for name, texts in deferred_values(ctx.options).items():
        if name not in ctx.options:
            continue
        try:
            parse_value(ctx.options, name, texts)
        except exceptions.OptionsError as error:
            if len(texts) > 1:
                raise ParseError(name, "is set twice") from error
            is_text = is_text_option(ctx.options, name)
            raise ParseError(name, "has no value; write NAME=VALUE" if is_text else "is not true or false") from error


def _forced_error(name: str, value: object) -> ParseError:
    return ParseError(name, f"must stay {str(value).lower()}: the data path rests on it")


def read_config(*, in_pod: bool) -> Config:
    """Parse all options. Raises ParseError for the first invalid one."""
    options = ctx.options
    return Config(
        source=_source(options.connector_source, in_pod=in_pod),
        authentication=_file(options.connector_authentication),
        recheck=_seconds("connector_recheck"),
        outage_grace=_seconds("connector_outage_grace", allow_zero=True),
        cut_expired=options.connector_cut_expired,
        forwarded_for=options.connector_forwarded_for,
        flows=_choice("connector_flows", ("auto", "on", "off")),
        keep_body=_size("connector_keep_body"),
        keep_secrets=options.connector_keep_secrets,
        audit=_choice("connector_audit", ("auto", "json", "text")),
        audit_refuses=_choice("connector_audit_when_full", ("count", "refuse")) == "refuse",
        audit_commands=options.connector_audit_commands,
        admin=parse_listen_address(options.connector_admin) if options.connector_admin else None,
        sessions=_sessions(options.connector_sessions, in_pod=in_pod),
        max_header=_number("connector_max_header", 1024, 1024 * 1024),
        timeouts=Timeouts(
            client=_seconds("connector_client_timeout"),
            connect=_seconds("connector_connect_timeout"),
        ),
        keep_target=_seconds("connector_keep_target", allow_zero=True),
        max_unauthenticated=_number("connector_max_unauthenticated", 1, 1_000_000),
        max_unauthenticated_per_address=_number("connector_max_unauthenticated_per_address", 1, 1_000_000),
        max_connections=_number("connector_max_connections", 1, 1_000_000),
        names=_names(ctx.options.connector_names),
        confdir=Path(options.confdir).expanduser(),
        explicit={key: value for key in SETTINGS if (value := getattr(options, option_name(key)))},
    )


def _source(text: str, *, in_pod: bool) -> FolderSource | ClusterSource:
    with parse_errors_at("connector_source"):
        return parse_source(text, in_pod=in_pod)


def _sessions(text: str, *, in_pod: bool) -> tuple[str, int] | None:
    if text == "auto":
        return LOOPBACK, SESSIONS_PORT if in_pod else 0
    if not text:
        return None
    address = parse_listen_address(text, "connector_sessions")
    check_loopback(address[0])
    return address


def _names(text: str) -> tuple[str, ...]:
    with parse_errors_at("connector_names"):
        return parse_host_names(text)


def _file(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def _choice(name: str, choices: tuple[str, ...]) -> str:
    value: str = getattr(ctx.options, name)
    if value not in choices:
        raise ParseError(name, "is not one of: " + ", ".join(choices))
    return value


def _seconds(name: str, *, allow_zero: bool = False) -> float:
    with parse_errors_at(name):
        return parse_seconds(getattr(ctx.options, name), allow_zero=allow_zero)


def _number(name: str, minimum: int, maximum: int) -> int:
    text: str = getattr(ctx.options, name)
    value = int(text) if text.isascii() and text.isdigit() else -1
    if not minimum <= value <= maximum:
        raise ParseError(name, f"is not a number from {minimum} to {maximum}")
    return value


def _size(name: str) -> int:
    try:
        return human.parse_size(getattr(ctx.options, name)) or 0
    except ValueError:
        raise ParseError(name, "is not a size; write 65536 or 64k") from None
