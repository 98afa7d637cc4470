"""Command `run`: run a command with a kubeconfig that exists only as long as the command."""

import contextlib
import functools
import os
import tempfile
from pathlib import Path
from typing import Final

import click

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.connector_source import FolderSource
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigStyle
from connectorctl import supervision
from connectorctl.choice import choose_connector
from connectorctl.command import Command, make_command
from connectorctl.local_proxy import empty_log, start_local_proxy
from connectorctl.oidc_token import TokenProvider
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.options import (
    ENVIRONMENT,
    add_caller_options,
    add_connector_arguments,
    add_oidc_options,
    add_source_options,
)
from connectorctl.output import print_error
from connectorctl.source import resolve_source
from connectorctl.source_dispatch import build_entries, build_oidc_entries, issue_token
from connectorctl.temporary_kubeconfig import TemporaryKubeconfig

_LOG_FILE: Final = "proxy.log"
_SEPARATOR: Final = "--"
_COMMAND_WORDS: Final = f"{__name__}.words"


class RunCommand(Command):
    """Command whose arguments after `--` are the command to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if _SEPARATOR in args:
            index = args.index(_SEPARATOR)
            args, ctx.meta[_COMMAND_WORDS] = args[:index], args[index + 1 :]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARGUMENT...]"]


@make_command(
    "run",
    kind=RunCommand,
    common=("--source", "--proxy", "--log", "--ttl", "--help"),
    examples=(
        "connectorctl run default/my-cluster -- kubectl get pods",
        "connectorctl run -- k9s",
        "connectorctl run team-a/k8s --service-account ci/pipeline -- helm upgrade web ./chart",
        "connectorctl run team-a/k8s --oidc github --proxy https://proxy.example.com --ca ca.crt -- kubectl get pods",
    ),
)
@click.option("--default-namespace", metavar="NAMESPACE", help="Default namespace of the context.")
@click.option("--proxy", metavar="URL", envvar=f"{ENVIRONMENT}PROXY", show_envvar=True,
              help="URL of a running proxy. Default: the cluster's; with a folder, a new one starts.")  # fmt: skip
@click.option("--ca", metavar="FILE", type=click.Path(path_type=Path), help="File with the proxy's CA, for --oidc.")
@click.option("--log", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False),
              help="File for the log of the proxy that this command starts, with its audit records.")  # fmt: skip
@add_oidc_options
@add_caller_options
@add_connector_arguments()
@add_source_options
@click.pass_context
def command(
    ctx: click.Context,
    key: ObjectKey | None,
    default_namespace: str | None,
    proxy: str | None,
    ca: Path | None,
    log: Path | None,
    token_provider: TokenProvider | None,
    audience: str,
    source_options: SourceOptions,
    caller_options: CallerOptions,
) -> None:
    """Run a command with a kubeconfig for one Connector, and remove the kubeconfig when the command ends.

    The command finds the kubeconfig in KUBECONFIG. Its token is renewed while the command runs. With a folder, a proxy
    on 127.0.0.1 runs for as long as the command. Signals go to the command, and its exit code is that of this program.
    """
    words = ctx.meta.get(_COMMAND_WORDS)
    if not words:
        raise click.UsageError("write the command after --, for example: -- kubectl get pods")
    if token_provider is not None and (key is None or proxy is None or ca is None):
        raise click.UsageError("--oidc needs NAMESPACE/NAME, --proxy https://HOST and --ca FILE")
    if token_provider is None and ca is not None:
        raise click.UsageError(
            "--ca goes with --oidc; leave it out, because the CA comes from --confdir or the cluster"
        )
    style = KubeconfigStyle(direct=token_provider is not None, namespace=default_namespace)
    with contextlib.ExitStack() as stack:
        stack.enter_context(supervision.blocked_signals())
        # Of mode 0700.
        temporary = tempfile.TemporaryDirectory(prefix="connectorctl-run-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(temporary))
        try:
            if token_provider is not None and key is not None and proxy is not None and ca is not None:
                issue = functools.partial(token_provider.fetch, os.environ, audience)
                entry = build_oidc_entries([key], proxy, ca)[0]
            else:
                key = choose_connector(key, source_options, ctx.obj)
                issue = functools.partial(issue_token, key, source_options, caller_options, ctx.obj)
                source = resolve_source(source_options, ctx.obj, caller_options)
                if isinstance(source, FolderSource) and proxy is None:
                    token = issue()  # reports a Connector that is not in the folder before the proxy starts
                    started = start_local_proxy(
                        Path(source.path), confdir=caller_options.confdir, log=log or folder / _LOG_FILE
                    )
                    proxy = stack.enter_context(started).wait_until_usable(key, token)
                entry = build_entries([key], source_options, caller_options, ctx.obj, proxy=proxy)[0]
            kubeconfig, seconds = TemporaryKubeconfig.write(folder, entry, style, issue)
        except supervision.InterruptedStartError as error:
            ctx.exit(error.exit_code)
        ctx.exit(_run(words, kubeconfig, seconds))


def _run(words: list[str], kubeconfig: TemporaryKubeconfig, renewal_seconds: float) -> int:
    """Run the command, and return its exit code."""
    try:
        process = supervision.start_command(words, {**os.environ, "KUBECONFIG": str(kubeconfig.path)})
    except OSError as error:
        print_error(f"cannot run {words[0]}: {error.strerror}")
        return supervision.start_failure_code(error)

    def renew() -> float:
        empty_log(kubeconfig.path.with_name(_LOG_FILE))
        return kubeconfig.renew()

    return supervision.wait(process, renewal_seconds, renew)
