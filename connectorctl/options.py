"""Options that several commands share. Each group of options becomes one frozen value of `option_values`.

    @make_command("token", examples=…)
    @add_source_options
    def command(source_options: SourceOptions) -> None: …

If an option is not given, its environment variable, where it has one, sets the value.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from connector_store.domain.base.duration import parse_duration
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl.oidc_token import DEFAULT_AUDIENCE, KINDS, TokenProvider, parse_token_provider
from connectorctl.option_values import CallerOptions, SourceOptions

DEFAULT_TTL: Final = "30m"
"""Lifetime of a token, as that of the CSI driver's tokens."""
ENVIRONMENT: Final = "CONNECTORCTL_"
"""Prefix of the environment variables of this program. Those of the shared settings begin with CONNECTORS_."""

MAX_LIFETIME: Final = 366 * 24 * 3600
"""Maximum lifetime of a token in seconds."""

Function = Callable[..., Any]


class ParsedParam[T](click.ParamType[T]):
    """Parameter whose text `parse` converts to `kind`. A ParseError is a usage error."""

    def __init__(self, name: str, kind: type[T], parse: Callable[[str], T]) -> None:
        self.name = name
        self._kind = kind
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if isinstance(value, self._kind):
            return value
        try:
            return self._parse(value)
        except ParseError as error:
            self.fail(f"{value!r}: {error.reason}", param, ctx)


KEY_PARAM: Final = ParsedParam("NAMESPACE/NAME", ObjectKey, ObjectKey.parse)


class ConnectorKeyParam(ParsedParam[ObjectKey]):
    """NAMESPACE/NAME of a Connector. The shell completes it from the source on the command line."""

    def __init__(self) -> None:
        super().__init__("NAMESPACE/NAME", ObjectKey, ObjectKey.parse)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from connectorctl.complete import complete_connectors

        options = SourceOptions(
            source=ctx.params.get("source") or "auto",
            kubeconfig=ctx.params.get("kubeconfig"),
            context=ctx.params.get("context"),
        )
        return [
            CompletionItem(name)
            for name in complete_connectors(options, ctx.find_root().obj)
            if name.startswith(incomplete)
        ]


def parse_lifetime(text: str) -> int:
    """Parse the lifetime of a token in kubectl's syntax into whole seconds: at least 1, at most MAX_LIFETIME."""
    seconds = int(parse_duration(text))
    if not 0 < seconds <= MAX_LIFETIME:
        raise ParseError("", "is not between 1s and a year")
    return seconds


def add_oidc_options(function: Function) -> Function:
    """Add `--oidc` and `--audience` as `token_provider: TokenProvider | None` and `audience: str`.

    `--audience` without `--oidc` is a usage error.
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any, token_provider: TokenProvider | None, audience: str, **values: Any) -> Any:
        is_audience_given = click.get_current_context().get_parameter_source("audience") is not ParameterSource.DEFAULT
        if is_audience_given and token_provider is None:
            raise click.UsageError("--audience goes with --oidc; else the audience is that of the proxy's settings")
        return function(*arguments, token_provider=token_provider, audience=audience, **values)

    return _apply_decorators(
        wrapped,
        click.option("--oidc", "token_provider", type=ParsedParam("SOURCE", TokenProvider, parse_token_provider),
                     help=f"Authenticate with an OIDC token from: {KINDS}."),
        click.option("--audience", default=DEFAULT_AUDIENCE, show_default=True, metavar="NAME",
                     help="Audience to request for the OIDC token."),
    )  # fmt: skip


def add_source_options(function: Function) -> Function:
    """Add `--source`, `--kubeconfig` and `--context` as `source_options: SourceOptions`."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, source: str, kubeconfig: str | None, context: str | None, **values: Any) -> Any:
        return function(
            *arguments, source_options=SourceOptions(source=source, kubeconfig=kubeconfig, context=context), **values
        )

    return _apply_decorators(
        wrapped,
        click.option("--source", default="auto", envvar=f"{ENVIRONMENT}SOURCE", show_envvar=True,
                     metavar="SOURCE", help="Source: kubernetes, kubernetes:CONTEXT, or a folder of manifests. Default:"
                     " ./connectors; in a pod, as a kubectl plugin, or with an option for clusters, kubernetes."),
        click.option("--kubeconfig", metavar="FILE", type=click.Path(),
                     help="Kubeconfig of the cluster with the Connectors."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
    )  # fmt: skip


def add_caller_options(function: Function) -> Function:
    """Add `--service-account`, `--ttl` and `--confdir` as `caller_options: CallerOptions`."""

    @functools.wraps(function)
    def wrapped(
        *arguments: Any, service_account: ObjectKey | None, ttl: int, confdir: Path | None, **values: Any
    ) -> Any:
        return function(
            *arguments,
            caller_options=CallerOptions(service_account=service_account, ttl=ttl, confdir=confdir),
            **values,
        )

    return _apply_decorators(
        wrapped,
        click.option("--service-account", type=KEY_PARAM, envvar=f"{ENVIRONMENT}SERVICE_ACCOUNT", show_envvar=True,
                     help="ServiceAccount whose token to request from a cluster."),
        click.option("--ttl", type=ParsedParam("DURATION", int, parse_lifetime), default=DEFAULT_TTL,
                     show_default=True, envvar=f"{ENVIRONMENT}TTL", show_envvar=True,
                     help="Lifetime of the token: 30m, 1h30m, 90s."),
        confdir_option,
    )  # fmt: skip


confdir_option: Final = click.option(
    "--confdir", metavar="DIR", type=click.Path(path_type=Path), envvar=f"{ENVIRONMENT}CONFDIR", show_envvar=True,
    help="Folder with the proxy's keys. Default: ~/.mitmproxy.",
)  # fmt: skip


def add_format_option(*forms: str) -> Callable[[Function], Function]:
    """Add `-o` with one of `forms` as `form: str | None`."""
    return click.option("-o", "--output", "form", type=click.Choice(forms), help="Format of the output.")


def _apply_decorators(function: Function, *decorators: Callable[[Function], Function]) -> Function:
    for decorator in reversed(decorators):
        function = decorator(function)
    return function
