"""Command `import`: create a Connector and its Secret from a kubeconfig."""

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import click
import yaml

from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS, SECRETS
from connectorctl.command import make_command
from connectorctl.importer import convert_kubeconfig
from connectorctl.output import print_message
from connectorctl.private_files import create_private

_DEFAULT_NAMESPACE: Final = "default"
_UNKNOWN_OUTCOME: Final = (0, 504)
"""Status codes that do not show whether the API server stored the object."""


@make_command(
    "import",
    examples=(
        "connectorctl import target.kubeconfig -o connectors/target.yaml",
        "connectorctl import target.kubeconfig --context admin@kind -n team-a --apply",
    ),
)
@click.argument("kubeconfig", type=click.Path(path_type=Path, dir_okay=False), metavar="KUBECONFIG")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig. Default: its current context.")
@click.option("-n", "--namespace", default=_DEFAULT_NAMESPACE, help="Namespace of both objects. Default: default.")
@click.option("--name", metavar="NAME", help="Name of both objects. Default: from the context.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File to write. Default: ./connectors/NAME.yaml.",
)
@click.option(
    "--apply", "apply_", is_flag=True, help="Create both objects in the cluster that kubectl uses, and write no file."
)
def command(
    kubeconfig: Path, context: str | None, namespace: str, name: str | None, output: Path | None, apply_: bool
) -> None:
    """Create a Connector and its Secret from a kubeconfig's token or certificate, pinned to its server.

    Only you can read the file. The command never overwrites a file. It reports what a Connector does not support.
    """
    if apply_ and output is not None:
        raise click.UsageError("--apply: writes no file; leave out --output")
    secret, connector = convert_kubeconfig(kubeconfig, context, namespace=namespace, name=name)
    if apply_:
        asyncio.run(_create(secret, connector))
        print_message(f"created Secret and Connector {namespace}/{connector['metadata']['name']}")
        return
    path = output or Path("connectors") / f"{connector['metadata']['name']}.yaml"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        create_private(path, yaml.safe_dump_all([secret, connector], sort_keys=False))
    except FileExistsError as error:
        raise click.ClickException(f"{path} is there already; name another file with --output") from error
    print_message(f"wrote {path}; look at it with: connectorctl check {path.parent}")


async def _create(secret: dict[str, Any], connector: dict[str, Any]) -> None:
    """Create both objects, or none if one is refused. Raises the API server's ApiError."""
    namespace = secret["metadata"]["namespace"]
    configuration = await config_loader.load_configuration(None, environ=os.environ)
    async with KubeClient(configuration, user_agent="connectorctl") as client:
        await _dry_run(client, SECRETS.path(namespace), secret)
        await _dry_run(client, CONNECTORS.path(namespace), connector)
        created_secret = await client.create(SECRETS.path(namespace), secret)
        try:
            await client.create(CONNECTORS.path(namespace), connector)
        except ApiError as error:
            await _delete_secret(client, created_secret, error)
            raise


async def _dry_run(client: KubeClient, path: str, body: dict[str, Any]) -> None:
    try:
        await client.create(path, body, dry_run=True)
    except ApiError as error:
        # A webhook without dry-run support is not a refusal. It decides when the object is created.
        if error.status != 400 or "does not support dry run" not in error.message:
            raise


async def _delete_secret(client: KubeClient, secret: dict[str, Any], cause: ApiError) -> None:
    """Delete the Secret of a Connector that was refused, by uid, and print the result."""
    metadata = secret["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    if cause.status in _UNKNOWN_OUTCOME:
        print_message(f"warning: Secret {namespace}/{name} was created; whether the Connector was is not known")
        return
    try:
        await client.delete(SECRETS.path(namespace, name), uid=metadata["uid"])
    except ApiError as error:
        print_message(
            f"warning: Secret {namespace}/{name} was created and stays, as it cannot be deleted: {error.message}"
        )
    else:
        print_message(f"Secret {namespace}/{name} was created, and is deleted again: the Connector was refused")
