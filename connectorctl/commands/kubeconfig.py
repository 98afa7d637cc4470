"""Command `kubeconfig`: write a kubeconfig that leads through the proxy."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from connector_store.domain.base.errors import parse_errors_at
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import (
    TOKEN_FILE,
    KubeconfigEntry,
    KubeconfigStyle,
    build_kubeconfig,
    parse_proxy_url,
)
from connectorctl.choice import choose_connector
from connectorctl.command import make_command
from connectorctl.exec_plugin import ExecPlugin, make_oidc_plugin, make_plugin
from connectorctl.invocation import Invocation
from connectorctl.kubeconfig_file import check_replaceable, default_file, merge_into
from connectorctl.oidc_token import TokenProvider
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.options import (
    ENVIRONMENT,
    add_caller_options,
    add_connector_arguments,
    add_oidc_options,
    add_source_options,
)
from connectorctl.output import print_message, render_value, write
from connectorctl.source import is_cluster
from connectorctl.source_dispatch import build_entries, build_oidc_entries

_STDOUT: Final = "-"
_FORMS: Final = ("yaml", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeconfigOutput:
    """Destination of the kubeconfig: a file, or stdout in the format `form`."""

    file: Path | None = None
    form: str = "yaml"


@make_command(
    "kubeconfig",
    common=("--output", "--merge", "--exec", "--ttl", "--source", "--help"),
    examples=(
        "connectorctl kubeconfig default/k8s-connector -o team.kubeconfig",
        "connectorctl kubeconfig default/k8s-connector --exec --merge",
        "connectorctl kubeconfig team-a/k8s --service-account ci/pipeline --rotating -o team.kubeconfig",
        "connectorctl kubeconfig team-a/k8s --oidc github --proxy https://proxy.example.com --ca ca.crt",
        "connectorctl kubeconfig default/k8s-connector --direct -o team.kubeconfig",
    ),
)
@click.option(
    "-o",
    "--output",
    metavar="FILE|yaml|json",
    help="File to write, which only you can read. yaml and json are formats for stdout.",
)
@click.option("--merge", is_flag=True, help="Add the context to the file, by default to the one that kubectl reads.")
@click.option("--force", is_flag=True, help="Also replace contexts and files that connectorctl did not write.")
@click.option(
    "--exec",
    "by_exec",
    is_flag=True,
    help="Write an exec credential plugin that gets a new token when the old one expires.",
)
@click.option(
    "--rotating",
    is_flag=True,
    help="Write the token to context.token next to the file. Clients read it again each minute.",
)
@click.option("--direct", is_flag=True, help="Use the proxy as the server, for clients that do not support proxy-url.")
@click.option("--context-name", metavar="NAME", help="Name of the context, cluster and user, for one Connector.")
@click.option("--default-namespace", metavar="NAMESPACE", help="Default namespace of the context.")
@click.option("--proxy", metavar="URL", envvar=f"{ENVIRONMENT}PROXY", show_envvar=True,
              help="URL of the proxy. Default: from the Connector's status, or http://127.0.0.1:8080.")  # fmt: skip
@click.option("--ca", metavar="FILE", type=click.Path(path_type=Path), help="File with the proxy's CA, for --oidc.")
@add_oidc_options
@add_caller_options
@add_connector_arguments(several=True)
@add_source_options
@click.pass_obj
def command(
    invocation: Invocation,
    keys: tuple[ObjectKey, ...],
    output: str | None,
    merge: bool,
    force: bool,
    by_exec: bool,
    rotating: bool,
    direct: bool,
    context_name: str | None,
    default_namespace: str | None,
    proxy: str | None,
    ca: Path | None,
    token_provider: TokenProvider | None,
    audience: str,
    source_options: SourceOptions,
    caller_options: CallerOptions,
) -> None:
    """Print a kubeconfig that leads through the proxy.

    It contains a token of the caller, and no credential of a target. The first Connector is the current context. With
    --exec, it contains no token and does not expire: kubectl runs this program for a token. With --oidc, it is for a
    caller from outside: kubectl runs this program for the OIDC token of the job or the pod.
    """
    if token_provider is not None and not keys:
        raise click.UsageError("--oidc needs NAMESPACE/NAME, because it reads no source")
    keys = keys or (choose_connector(None, source_options, invocation),)
    destination = _parse_output(output, merge=merge)
    _check_options(
        keys, destination, caller_options, merge=merge, by_exec=by_exec, rotating=rotating, context_name=context_name
    )
    if destination.file is not None and not merge and not force:
        check_replaceable(destination.file)
    if token_provider is None and ca is not None:
        raise click.UsageError(
            "--ca goes with --oidc; leave it out, because the CA comes from --confdir or the cluster"
        )
    if token_provider is not None:
        if proxy is None or ca is None or rotating or by_exec:
            raise click.UsageError("--oidc needs --proxy https://HOST and --ca FILE, and neither --exec nor --rotating")
        _check_proxy(proxy)
        kubeconfig_entries = build_oidc_entries(keys, proxy, ca)
        plugin: ExecPlugin | None = make_oidc_plugin(token_provider, audience)
    else:
        _check_proxy(proxy)
        kubeconfig_entries = build_entries(keys, source_options, caller_options, invocation, proxy=proxy)
        plugin = (
            make_plugin(source_options, caller_options, is_cluster(source_options, invocation, caller_options))
            if by_exec
            else None
        )
    style = KubeconfigStyle(
        rotating=rotating,
        direct=direct or token_provider is not None,
        exec_plugin=plugin,
        context_name=context_name or (str(keys[0]) if merge else None),
        namespace=default_namespace,
    )
    _write_output(
        build_kubeconfig(kubeconfig_entries, style),
        destination,
        kubeconfig_entries[0],
        merge=merge,
        force=force,
        rotating=rotating,
    )


def _parse_output(output: str | None, *, merge: bool) -> KubeconfigOutput:
    if output in _FORMS:
        return KubeconfigOutput(form=output)
    if output is None or output == _STDOUT:
        return KubeconfigOutput(file=default_file(os.environ)) if merge and output is None else KubeconfigOutput()
    return KubeconfigOutput(file=Path(output).expanduser())


def _check_options(
    keys: tuple[ObjectKey, ...],
    destination: KubeconfigOutput,
    caller_options: CallerOptions,
    *,
    merge: bool,
    by_exec: bool,
    rotating: bool,
    context_name: str | None,
) -> None:
    if merge and destination.file is None:
        raise click.UsageError("--merge is for files; leave out -o, or name a file with it")
    if rotating and (by_exec or merge):
        raise click.UsageError("--rotating does not go with --exec or --merge; to renew the token, use --exec instead")
    if rotating and destination.file is None:
        raise click.UsageError("--rotating needs -o FILE, because it writes the token to a second file next to FILE")
    if rotating and len(keys) > 1 and caller_options.service_account is None:
        raise click.UsageError("--rotating: each Connector of a folder has a token of its own; name one Connector")
    if context_name is not None and len(keys) > 1:
        raise click.UsageError("--context-name is for one Connector; leave it out, to use the Connectors' names")
    if context_name == "":
        raise click.UsageError("--context-name is empty; leave it out, or write a name")


def _check_proxy(url: str | None) -> None:
    if url is None:
        return
    with parse_errors_at("--proxy"):
        parse_proxy_url(url)


def _write_output(
    config: dict[str, Any],
    destination: KubeconfigOutput,
    entry: KubeconfigEntry,
    *,
    merge: bool,
    force: bool,
    rotating: bool,
) -> None:
    from connector_store.private_files import write_private

    if destination.file is None:
        write(render_value(config, destination.form))
        return
    if merge:
        previous_context = merge_into(destination.file, config, force=force)
        name = config["current-context"]
        suffix = f", which was {previous_context}" if previous_context and previous_context != name else ""
        print_message(f"wrote {destination.file}; its current context is {name}{suffix}")
        return
    if rotating:
        write_private(destination.file.parent / TOKEN_FILE, entry.token)
    write_private(destination.file, render_value(config, "yaml"))
    print_message(f"wrote {destination.file}")
