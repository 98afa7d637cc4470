"""Options that several commands share, each bundle read into one frozen value.

    @command("token", examples=…)
    @source_options
    def command(where: Where) -> None: …

An option that has a variable of the environment takes its value from there when it is not given.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl.lifetime import parse_lifetime
from connectorctl.oidc_token import DEFAULT_AUDIENCE, KINDS, TokenProvider, parse_token_provider

DEFAULT_TTL: Final = "30m"
"""As long as the CSI driver's tokens."""
ENVIRONMENT: Final = "CONNECTORCTL_"
"""Variables of this program; those of the product's settings begin with CONNECTORS_."""

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Where Connectors are looked for."""

    source: str = "auto"
    kubeconfig: str | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerOptions:
    """Whose token is made: an account's of the cluster, or one signed with the proxy's own key in `confdir`.

    `ttl` is in seconds.
    """

    service_account: ObjectKey | None = None
    ttl: int = 30 * 60
    confdir: Path | None = None


class KeyParam(click.ParamType[ObjectKey]):
    """NAMESPACE/NAME."""

    name = "NAMESPACE/NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ObjectKey:
        if isinstance(value, ObjectKey):
            return value
        try:
            return ObjectKey.parse(value)
        except ParseError as error:
            self.fail(f"{value!r}: {error.reason}", param, ctx)


class ConnectorKeyParam(KeyParam):
    """NAMESPACE/NAME of a Connector, which the shell completes from the source of the command line."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from connectorctl.complete import complete_connectors

        options = SourceOptions(
            source=ctx.params.get("source") or "auto",
            kubeconfig=ctx.params.get("kubeconfig"),
            context=ctx.params.get("context"),
        )
        return [
            CompletionItem(each)
            for each in complete_connectors(options, ctx.find_root().obj)
            if each.startswith(incomplete)
        ]


class DurationParam(click.ParamType[int]):
    """Seconds, written as for kubectl."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_lifetime(value)
        except ParseError as error:
            self.fail(f"{value!r}: {error.reason}", param, ctx)


class TokenProviderParam(click.ParamType[TokenProvider]):
    """Where the token of a caller from outside comes from."""

    name = "SOURCE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TokenProvider:
        if isinstance(value, TokenProvider):
            return value
        try:
            return parse_token_provider(value)
        except ParseError as error:
            self.fail(f"{value!r} {error.reason}", param, ctx)


def add_oidc_options(function: Function) -> Function:
    """`--oidc`, `--audience`, as `identity: IdentitySource | None` and `audience: str`; the second needs the first."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, identity: TokenProvider | None, audience: str, **values: Any) -> Any:
        is_audience_given = click.get_current_context().get_parameter_source("audience") is not ParameterSource.DEFAULT
        if is_audience_given and identity is None:
            raise click.UsageError("--audience goes with --oidc; else the audience is that of the proxy's settings")
        return function(*arguments, identity=identity, audience=audience, **values)

    return _apply_decorators(
        wrapped,
        click.option("--oidc", "identity", type=TokenProviderParam(), help=f"Be whom an issuer has named: {KINDS}."),
        click.option("--audience", default=DEFAULT_AUDIENCE, show_default=True, metavar="NAME",
                     help="Of that token, as the proxy's issuers have it."),
    )  # fmt: skip


def add_source_options(function: Function) -> Function:
    """`--source`, `--kubeconfig`, `--context`, as `where: Where`."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, source: str, kubeconfig: str | None, context: str | None, **values: Any) -> Any:
        return function(
            *arguments, where=SourceOptions(source=source, kubeconfig=kubeconfig, context=context), **values
        )

    return _apply_decorators(
        wrapped,
        click.option("--source", default="auto", envvar=f"{ENVIRONMENT}SOURCE", show_envvar=True,
                     metavar="SOURCE", help="kubernetes, kubernetes:CONTEXT, or a folder of manifests. Default: "
                     "./connectors; in a pod, as a kubectl plugin, or with an option for clusters, kubernetes."),
        click.option("--kubeconfig", metavar="FILE", type=click.Path(), help="Of the cluster with the Connectors."),
        click.option("--context", metavar="NAME", help="Of that kubeconfig."),
    )  # fmt: skip


def add_caller_options(function: Function) -> Function:
    """`--service-account`, `--ttl`, `--confdir`, as `caller: Caller`."""

    @functools.wraps(function)
    def wrapped(
        *arguments: Any, service_account: ObjectKey | None, ttl: int, confdir: Path | None, **values: Any
    ) -> Any:
        return function(
            *arguments, caller=CallerOptions(service_account=service_account, ttl=ttl, confdir=confdir), **values
        )

    return _apply_decorators(
        wrapped,
        click.option("--service-account", type=KeyParam(), envvar=f"{ENVIRONMENT}SERVICE_ACCOUNT", show_envvar=True,
                     help="Whose token to ask a cluster for."),
        click.option("--ttl", type=DurationParam(), default=DEFAULT_TTL, show_default=True, envvar=f"{ENVIRONMENT}TTL",
                     show_envvar=True, help="How long the token is good: 30m, 1h30m, 90s."),
        confdir_option,
    )  # fmt: skip


confdir_option: Final = click.option(
    "--confdir", metavar="DIR", type=click.Path(path_type=Path), envvar=f"{ENVIRONMENT}CONFDIR", show_envvar=True,
    help="The proxy's folder with its keys. Default: ~/.mitmproxy.",
)  # fmt: skip


def add_format_option(*forms: str) -> Callable[[Function], Function]:
    """`-o` with one of `forms`, as `form: str | None`."""
    return click.option("-o", "--output", "form", type=click.Choice(forms), help="Print it in this form.")


def _apply_decorators(function: Function, *decorators: Callable[[Function], Function]) -> Function:
    for each in reversed(decorators):
        function = each(function)
    return function
