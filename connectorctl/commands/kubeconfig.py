"""`connectorctl kubeconfig`: a kubeconfig that leads through the proxy."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import (
    TOKEN_FILE,
    KubeconfigEntry,
    KubeconfigStyle,
    build_kubeconfig,
    parse_proxy_url,
)
from connectorctl.access import entries, outside_entries
from connectorctl.command import command as make
from connectorctl.identity import IdentitySource
from connectorctl.kubeconfig_file import check_replaceable, default_file, merge_into
from connectorctl.options import (
    ENVIRONMENT,
    Caller,
    ConnectorKey,
    Where,
    caller_options,
    identity_options,
    source_options,
)
from connectorctl.origin import is_cluster
from connectorctl.output import render_value, say, write
from connectorctl.plugin import Plugin, outside_plugin, plugin_of
from connectorctl.settings import own_settings
from connectorctl.situation import Situation

_STDOUT: Final = "-"
_FORMS: Final = ("yaml", "json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where it goes: a file, or stdout in a form."""

    file: Path | None = None
    form: str = "yaml"


@make(
    "kubeconfig",
    examples=(
        "connectorctl kubeconfig default/k8s-connector -o team.kubeconfig",
        "connectorctl kubeconfig default/k8s-connector --exec --merge",
        "connectorctl kubeconfig team-a/k8s --service-account ci/pipeline --rotating -o team.kubeconfig",
        "connectorctl kubeconfig team-a/k8s --oidc github --proxy https://proxy.example.com --ca ca.crt",
        "connectorctl kubeconfig default/k8s-connector --direct -o team.kubeconfig",
    ),
)
@click.argument("keys", type=ConnectorKey(), metavar="NAMESPACE/NAME...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    metavar="FILE|yaml|json",
    help="Write it there, readable to you only; yaml and json are forms of stdout.",
)
@click.option("--merge", is_flag=True, help="Add it to that file, by default the one that kubectl reads.")
@click.option("--force", is_flag=True, help="Also replace what is not of a Connector.")
@click.option("--exec", "by_exec", is_flag=True, help="Get tokens by this program, whenever one has ended.")
@click.option("--rotating", is_flag=True, help="Keep the token in a file that clients read again.")
@click.option("--direct", is_flag=True, help="The proxy is its server, by TLS: for clients that know no proxy.")
@click.option("--context-name", metavar="NAME", help="Of the context, cluster and user of one Connector.")
@click.option("--default-namespace", metavar="NAMESPACE", help="Of commands that name none.")
@click.option("--proxy", metavar="URL", envvar=f"{ENVIRONMENT}PROXY", show_envvar=True,
              help="Default: what the Connector's status says; for folders http://127.0.0.1:8080.")  # fmt: skip
@click.option("--ca", metavar="FILE", type=click.Path(path_type=Path), help="The proxy's CA, with --oidc.")
@identity_options
@caller_options
@source_options
@click.pass_obj
def command(
    situation: Situation,
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
    identity: IdentitySource | None,
    audience: str,
    where: Where,
    caller: Caller,
) -> None:
    """Print a kubeconfig that leads through the proxy.

    It holds a token of the caller and no credential of a target. The first Connector is the current context. With
    --exec it holds no token either, and never ends: kubectl asks this program for one. With --oidc it is for a
    caller from outside: nothing is looked up, and kubectl asks this program for the token of the job or the pod.
    """
    keys = tuple(dict.fromkeys(keys))
    place = _place(output, merge=merge)
    _check(keys, place, caller, merge=merge, by_exec=by_exec, rotating=rotating, context_name=context_name)
    if place.file is not None and not merge and not force:
        check_replaceable(place.file)
    if identity is None and ca is not None:
        raise click.UsageError("--ca goes with --oidc; else the CA is that of --confdir, or the controller's")
    if identity is not None:
        if proxy is None or ca is None or rotating or by_exec:
            raise click.UsageError("--oidc needs --proxy https://HOST and --ca FILE, and neither --exec nor --rotating")
        _check_proxy(proxy)
        made = outside_entries(keys, proxy, ca)
        plugin: Plugin | None = outside_plugin(identity, audience)
    else:
        _check_proxy(proxy)
        made = entries(keys, where, caller, own_settings(), situation, proxy=proxy)
        plugin = plugin_of(where, caller, is_cluster(where, situation, caller)) if by_exec else None
    style = KubeconfigStyle(
        rotating=rotating,
        direct=direct or identity is not None,
        exec_plugin=plugin,
        context_name=context_name or (str(keys[0]) if merge else None),
        namespace=default_namespace,
    )
    _deliver(build_kubeconfig(made, style), place, made[0], merge=merge, force=force, rotating=rotating)


def _place(output: str | None, *, merge: bool) -> Place:
    if output in _FORMS:
        return Place(form=output)
    if output is None or output == _STDOUT:
        return Place(file=default_file(os.environ)) if merge and output is None else Place()
    return Place(file=Path(output).expanduser())


def _check(
    keys: tuple[ObjectKey, ...],
    place: Place,
    caller: Caller,
    *,
    merge: bool,
    by_exec: bool,
    rotating: bool,
    context_name: str | None,
) -> None:
    if merge and place.file is None:
        raise click.UsageError("--merge is for files; leave -o out, or name one")
    if rotating and (by_exec or merge):
        raise click.UsageError("--rotating is for a file of its own; --exec alone renews the token")
    if rotating and place.file is None:
        raise click.UsageError("--rotating needs -o FILE: the token lies in a file of its own beside it")
    if rotating and len(keys) > 1 and caller.service_account is None:
        raise click.UsageError("--rotating takes one Connector of a folder: each has a token of its own")
    if context_name is not None and len(keys) > 1:
        raise click.UsageError("--context-name is for one Connector; several have the names of theirs")
    if context_name == "":
        raise click.UsageError("--context-name is empty; leave it out, or name one")


def _check_proxy(url: str | None) -> None:
    if url is None:
        return
    try:
        parse_proxy_url(url)
    except ParseError as error:
        raise ParseError("--proxy", error.reason) from None


def _deliver(
    config: dict[str, Any], place: Place, first: KubeconfigEntry, *, merge: bool, force: bool, rotating: bool
) -> None:
    from connectorctl.files import write_private

    if place.file is None:
        write(render_value(config, place.form))
        return
    if merge:
        before = merge_into(place.file, config, force=force)
        name = config["current-context"]
        was = f", which was {before}" if before and before != name else ""
        say(f"wrote {place.file}; its current context is {name}{was}")
        return
    if rotating:
        write_private(place.file.parent / TOKEN_FILE, first.token)
    write_private(place.file, render_value(config, "yaml"))
    say(f"wrote {place.file}")
