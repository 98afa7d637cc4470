"""Options that several commands share. Each group of options becomes one frozen value of `option_values`.

    @make_command("token", examples=…)
    @add_source_options
    def command(source_options: SourceOptions) -> None: …

If an option is not given, its environment variable, where it has one, sets the value.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from connector_store.domain.base.duration import parse_duration
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.manifest_access import MAX_DURATION, MIN_DURATION
from connectorctl.oidc_token import DEFAULT_AUDIENCE, KINDS, TokenProvider, parse_token_provider
from connectorctl.option_values import CallerOptions, Selection, SourceOptions
from connectorctl.output import print_message

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
        # A text on the command line is also a str, and `parse` accepts what it returned.
        if self._kind is not str and isinstance(value, self._kind):
            return value
        try:
            return self._parse(value)
        except ParseError as error:
            self.fail(f"{value!r}: {error.reason}", param, ctx)


KEY_PARAM: Final = ParsedParam("NAMESPACE/NAME", ObjectKey, ObjectKey.parse)


FOLDER_STARTS: Final = (".", "/", "~")
"""First characters of a folder where the argument can also be NAMESPACE/NAME."""


def is_folder(text: str) -> bool:
    """Return True if an argument is a folder, and not NAMESPACE/NAME."""
    return text.startswith(FOLDER_STARTS)


class ConnectorKeyParam(ParsedParam[ObjectKey]):
    """NAMESPACE/NAME of a Connector. The shell completes it from the source on the command line."""

    def __init__(self) -> None:
        super().__init__("NAMESPACE/NAME", ObjectKey, ObjectKey.parse)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from connectorctl.complete import complete_connectors

        names = complete_connectors(_completion_source(ctx), ctx.find_root().obj)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class AccessKeyParam(ParsedParam[ObjectKey]):
    """NAMESPACE/NAME of an AccessRequest or AccessLock. The shell completes it from the namespace that is written."""

    def __init__(self, plural: Literal["accessrequests", "accesslocks"]) -> None:
        super().__init__("NAMESPACE/NAME", ObjectKey, ObjectKey.parse)
        self._plural = plural

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from connectorctl.complete import complete_access_objects

        namespace = incomplete.partition("/")[0] if "/" in incomplete else None
        names = complete_access_objects(self._plural, namespace, _completion_source(ctx), ctx.find_root().obj)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _completion_source(ctx: click.Context) -> SourceOptions:
    return SourceOptions(
        source=ctx.params.get("source") or "auto",
        kubeconfig=ctx.params.get("kubeconfig"),
        context=ctx.params.get("context"),
    )


def parse_key_or_folder(text: str) -> ObjectKey:
    """Parse NAMESPACE/NAME where the argument can also be a folder."""
    try:
        return ObjectKey.parse(text)
    except ParseError as error:
        raise ParseError("", f"{error.reason}; a folder begins with ./") from None


class FolderOrKeyParam(ConnectorKeyParam):
    """Argument of `add_connector_arguments`: a folder stays a text."""

    def __init__(self) -> None:
        super().__init__()
        self._parse = parse_key_or_folder

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and is_folder(value) else super().convert(value, param, ctx)


def add_connector_arguments(*, several: bool = False) -> Callable[[Function], Function]:
    """Add the arguments `[DIR] [NAMESPACE/NAME]` as `key: ObjectKey | None`, or `keys: tuple[ObjectKey, ...]`.

    DIR replaces the value of `--source`, so this decorator comes before `add_source_options`.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapped(*arguments: Any, connectors: tuple[ObjectKey | str, ...], source: str, **values: Any) -> Any:
            folders = [each for each in connectors if isinstance(each, str)]
            keys = tuple(dict.fromkeys(each for each in connectors if not isinstance(each, str)))
            if not several and len(keys) > 1:
                raise click.UsageError(f"{keys[1]}: there are two Connectors; name one")
            parameters = {"keys": keys} if several else {"key": next(iter(keys), None)}
            return function(*arguments, source=choose_folder(folders, source), **parameters, **values)

        metavar = "[DIR] [NAMESPACE/NAME]" + ("..." if several else "")
        return click.argument("connectors", nargs=-1, type=FolderOrKeyParam(), metavar=metavar)(wrapped)

    return decorate


def add_selection(function: Function) -> Function:
    """Add the option `--namespace` and the arguments `[DIR] [NAMESPACE/NAME]` as `selection: Selection`."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, namespace: str | None, key: ObjectKey | None, **values: Any) -> Any:
        return function(*arguments, selection=Selection(namespace=namespace, key=key), **values)

    option = click.option("-n", "--namespace", help="Namespace of the Connectors to show. Default: all.")
    return add_connector_arguments()(option(wrapped))


def add_folder_argument(function: Function) -> Function:
    """Add the argument `[DIR]`, which replaces the value of `--source`. It comes before `add_source_options`."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, folder: str | None, source: str, **values: Any) -> Any:
        return function(*arguments, source=choose_folder([folder] if folder is not None else [], source), **values)

    return click.argument("folder", metavar="[DIR]", required=False, type=click.Path())(wrapped)


def choose_folder(folders: Sequence[str], source: str) -> str:
    """Return the folder that an argument names, or else `source`. Two of them are a usage error."""
    is_source_given = click.get_current_context().get_parameter_source("source") is ParameterSource.COMMANDLINE
    if len(folders) > 1 or (folders and is_source_given):
        raise click.UsageError(f"{folders[-1]}: the source is named twice; leave one of them out")
    return folders[0] if folders else source


def parse_lifetime(text: str) -> int:
    """Parse a lifetime into whole seconds, 1 to MAX_LIFETIME: kubectl's syntax, or whole days as in 30d."""
    days = text.removesuffix("d")
    is_days = text.endswith("d") and days.isascii() and days.isdigit()
    seconds = int(parse_duration(f"{days}h")) * 24 if is_days else int(parse_duration(text))
    if not 0 < seconds <= MAX_LIFETIME:
        raise ParseError("", "is not between 1s and a year")
    return seconds


def parse_access_duration(text: str) -> int:
    """Parse the duration of an access or a lock in kubectl's syntax into whole seconds, between 1s and 720h."""
    seconds = int(parse_duration(text))
    if not MIN_DURATION <= seconds <= MAX_DURATION:
        raise ParseError("", "is not between 1s and 720h")
    return seconds


def make_duration_option(text: str) -> Callable[[Function], Function]:
    """Return `--for` as `duration: int | None` in seconds, with a help."""
    return click.option("--for", "duration", type=ParsedParam("DURATION", int, parse_access_duration), help=text)


def parse_since(text: str) -> float:
    """Parse a time before now into seconds, more than 0, in kubectl's syntax."""
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ParseError("", "is not a time before now; write it as 1m or 90s")
    return seconds


def make_since_option(text: str) -> Callable[[Function], Function]:
    """Return `--since` as `since: float | None` in seconds, with a help."""
    return click.option("--since", type=ParsedParam("DURATION", float, parse_since), help=text)


def add_oidc_options(function: Function) -> Function:
    """Add `--oidc` and `--audience` as `token_provider: TokenProvider | None` and `audience: str`.

    `--audience` without `--oidc` is a usage error.
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any, token_provider: TokenProvider | None, audience: str, **values: Any) -> Any:
        is_audience_given = click.get_current_context().get_parameter_source("audience") is not ParameterSource.DEFAULT
        if is_audience_given and token_provider is None:
            raise click.UsageError("--audience goes with --oidc; leave it out, because other tokens have the proxy's")
        return function(*arguments, token_provider=token_provider, audience=audience, **values)

    return apply_decorators(
        wrapped,
        click.option("--oidc", "token_provider", type=ParsedParam("SOURCE", TokenProvider, parse_token_provider),
                     help=f"Authenticate with an OIDC token from: {KINDS}."),
        click.option("--audience", default=DEFAULT_AUDIENCE, show_default=True, metavar="NAME",
                     help="Audience to request for the OIDC token."),
    )  # fmt: skip


def add_source_options(function: Function) -> Function:
    """Add `--source`, `--kubeconfig` and `--context` as `source_options: SourceOptions`."""
    return _add_source_options(
        function,
        make_source_option("auto", "Source: kubernetes, kubernetes:CONTEXT, or a folder of manifests. Default: "
                           "./connectors; in a pod, as a kubectl plugin, or with an option for clusters, kubernetes."),
    )  # fmt: skip


def add_access_source_options(function: Function) -> Function:
    """Add the options of `add_source_options`, for commands that work with a cluster unless a folder is named."""
    return _add_source_options(
        function, make_source_option("kubernetes", "Source: kubernetes, kubernetes:CONTEXT, or a folder of manifests.")
    )


def _add_source_options(function: Function, source_option: Callable[[Function], Function]) -> Function:
    @functools.wraps(function)
    def wrapped(*arguments: Any, source: str, kubeconfig: str | None, context: str | None, **values: Any) -> Any:
        return function(
            *arguments, source_options=SourceOptions(source=source, kubeconfig=kubeconfig, context=context), **values
        )

    return apply_decorators(
        wrapped,
        source_option,
        click.option("--kubeconfig", metavar="FILE", type=click.Path(),
                     help="Kubeconfig of the cluster with the Connectors."),
        click.option("--context", metavar="NAME", help="Context of the kubeconfig."),
        click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_print_requests,
                     help="Print each request to the API server, without credentials."),
    )  # fmt: skip


def _print_requests(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the log of the API server's client to stderr while the command runs."""
    if not value:
        return
    client_logger = logging.getLogger("connector_store.kube.client")
    handler = _StderrHandler()
    client_logger.addHandler(handler)
    client_logger.setLevel(logging.DEBUG)

    def reset() -> None:
        client_logger.removeHandler(handler)
        client_logger.setLevel(logging.NOTSET)

    ctx.call_on_close(reset)


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print_message(record.getMessage())


def make_source_option(default: str, text: str) -> Callable[[Function], Function]:
    """Return `--source` with a default and a help."""
    return click.option(
        "--source", default=default, envvar=f"{ENVIRONMENT}SOURCE", show_envvar=True, metavar="SOURCE", help=text
    )


def add_caller_options(function: Function) -> Function:
    """Add `--service-account`, `--ttl`, `--as-caller` and `--confdir` as `caller_options: CallerOptions`."""

    @functools.wraps(function)
    def wrapped(
        *arguments: Any,
        service_account: ObjectKey | None,
        ttl: int,
        confdir: Path | None,
        as_caller: str | None,
        **values: Any,
    ) -> Any:
        return function(
            *arguments,
            caller_options=CallerOptions(
                service_account=service_account, ttl=ttl, confdir=confdir, as_caller=as_caller
            ),
            **values,
        )

    return apply_decorators(
        wrapped,
        click.option("--service-account", type=KEY_PARAM, envvar=f"{ENVIRONMENT}SERVICE_ACCOUNT", show_envvar=True,
                     help="ServiceAccount whose token to request from a cluster."),
        click.option("--ttl", type=ParsedParam("DURATION", int, parse_lifetime), default=DEFAULT_TTL,
                     show_default=True, envvar=f"{ENVIRONMENT}TTL", show_envvar=True,
                     help="Lifetime of the token: 30m, 1h30m, 90s, 2d."),
        click.option("--as-caller", metavar="NAME",
                     help="Name of the caller in a token, for folders. Default: the name of the Connector."),
        confdir_option,
    )  # fmt: skip


confdir_option: Final = click.option(
    "--confdir", metavar="DIR", type=click.Path(path_type=Path), envvar=f"{ENVIRONMENT}CONFDIR", show_envvar=True,
    help="Folder with the proxy's keys. Default: ~/.mitmproxy.",
)  # fmt: skip


def add_format_option(*forms: str) -> Callable[[Function], Function]:
    """Add `-o` with one of `forms` as `form: str | None`."""
    return click.option("-o", "--output", "form", type=click.Choice(forms), help="Format of the output.")


def apply_decorators(function: Function, *decorators: Callable[[Function], Function]) -> Function:
    """Decorate a function as if the decorators stood above it in this order."""
    for decorator in reversed(decorators):
        function = decorator(function)
    return function
