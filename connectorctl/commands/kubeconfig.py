"""`connectorctl kubeconfig`: a kubeconfig that leads through the proxy."""

from pathlib import Path

import click

from connector_store.domain.kubeconfig import TOKEN_FILE, render
from connector_store.domain.names import ObjectKey
from connectorctl.access import entries
from connectorctl.command import command as make
from connectorctl.options import ENVIRONMENT, Caller, ConnectorKey, Where, caller_options, source_options
from connectorctl.output import say, write
from connectorctl.settings import own_settings
from connectorctl.situation import Situation

STDOUT = Path("-")


@make(
    "kubeconfig",
    examples=(
        "connectorctl kubeconfig default/k8s-connector -o team.kubeconfig",
        "connectorctl kubeconfig team-a/k8s --service-account ci/pipeline --rotating -o team.kubeconfig",
    ),
)
@click.argument("keys", type=ConnectorKey(), metavar="NAMESPACE/NAME...", nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write there, readable to you only."
)
@click.option("--rotating", is_flag=True, help="Keep the token in a file that clients read again.")
@click.option("--proxy", metavar="URL", envvar=f"{ENVIRONMENT}PROXY", show_envvar=True,
              help="Default: what the Connector's status says; for folders http://127.0.0.1:8080.")  # fmt: skip
@caller_options
@source_options
@click.pass_obj
def command(
    situation: Situation,
    keys: tuple[ObjectKey, ...],
    output: Path | None,
    rotating: bool,
    proxy: str | None,
    where: Where,
    caller: Caller,
) -> None:
    """Print a kubeconfig that leads through the proxy.

    It holds a token of the caller and no credential of a target. The first Connector is the current context.
    """
    from connectorctl.files import write_private

    if rotating and output in (None, STDOUT):
        raise click.UsageError("--rotating needs -o FILE: the token lies in a file of its own beside it")
    if rotating and len(keys) > 1 and caller.service_account is None:
        raise click.UsageError("--rotating takes one Connector of a folder: each has a token of its own")
    made = entries(keys, where, caller, own_settings(), situation, proxy=proxy)
    text = render(made, rotating=rotating)
    if output is None or output == STDOUT:
        write(text)
        return
    if rotating:
        write_private(output.parent / TOKEN_FILE, made[0].token)
    write_private(output, text)
    say(f"wrote {output}")
