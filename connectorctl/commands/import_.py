"""Command `import`: create a Connector and its Secret from a kubeconfig."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import yaml

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.objects.address_matching import parse_address
from connector_store.domain.permissions.builtin_roles import READ_ONLY_ROLE
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS, SECRETS
from connector_store.private_files import create_private
from connectorctl import target_account
from connectorctl.command import make_command
from connectorctl.importer import (
    ImportTarget,
    build_agent_permissions,
    build_objects,
    build_permissions,
    issued_credential,
    read_credential,
    read_target,
)
from connectorctl.kubeconfig_file import default_file
from connectorctl.options import KEY_PARAM
from connectorctl.output import print_message, write

_DEFAULT_NAMESPACE: Final = "default"
_PLACEHOLDER: Final = b"placeholder"
"""Token of an account that does not exist yet."""
_UNKNOWN_OUTCOME: Final = (0, 504)
"""Status codes that do not show whether the API server stored the object."""


@make_command(
    "import",
    common=("--namespace", "--name", "--read-only", "--allow", "--deny-credentials", "--apply", "--help"),
    examples=(
        "connectorctl import --read-only --deny-credentials",
        "connectorctl import target.kubeconfig -o connectors/target.yaml",
        "connectorctl import target.kubeconfig --context admin@kind -n team-a --apply",
        "connectorctl import --kubeconfig target.kubeconfig --create-account --role view -n team-a --apply",
        "connectorctl import -n team-a --address https://kubernetes.default.svc --apply",
    ),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="[KUBECONFIG]", required=False)
@click.option("--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Kubeconfig of the target. Default: the one that kubectl reads.")  # fmt: skip
@click.option("--context", metavar="NAME", help="Context of the kubeconfig. Default: its current context.")
@click.option("-n", "--namespace", default=_DEFAULT_NAMESPACE,
              help="Namespace of the Connector and its Secret. Default: default.")  # fmt: skip
@click.option("--name", metavar="NAME", help="Name of the Connector and its Secret. Default: from the context.")
@click.option("--address", metavar="URL",
              help="Address of the target for the proxy. Default: the kubeconfig's server.")  # fmt: skip
@click.option(
    "--read-only", is_flag=True, help=f"Allow reading only, including Secrets: the ClusterRole {READ_ONLY_ROLE}."
)
@click.option("--allow", "roles", metavar="ROLE", multiple=True, help="ClusterRole to allow. Repeat it for several.")
@click.option("--deny-credentials", is_flag=True, help="Deny Secrets, tokens, exec and all other ways to a credential.")
@click.option("--agent", "is_for_agent", is_flag=True,
              help="Allow reading with masked Secrets, and deny the ways around the mask.")  # fmt: skip
@click.option("--create-account", "creates_account", is_flag=True,
              help="Create a ServiceAccount on the target, and use short-lived tokens of it.")  # fmt: skip
@click.option("--role", metavar="ROLE", help="ClusterRole of the target for that ServiceAccount, in all namespaces.")
@click.option("--account", type=KEY_PARAM, help="Name of that ServiceAccount. Default: default/NAME.")
@click.option("--dry-run", is_flag=True, help="Print a script that creates the account, the Connector and its Secret.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File to write. Default: ./connectors/NAME.yaml.",
)
@click.option(
    "--apply",
    "apply_",
    is_flag=True,
    help="Create the Connector and its Secret in the cluster that kubectl uses, and write no file.",
)
def command(
    file: Path | None,
    kubeconfig: Path | None,
    context: str | None,
    namespace: str,
    name: str | None,
    address: str | None,
    read_only: bool,
    roles: Sequence[str],
    deny_credentials: bool,
    is_for_agent: bool,
    creates_account: bool,
    role: str | None,
    account: ObjectKey | None,
    dry_run: bool,
    output: Path | None,
    apply_: bool,
) -> None:
    """Create a Connector and its Secret from a kubeconfig's token or certificate, pinned to its server.

    Without KUBECONFIG, the command reads the kubeconfig that kubectl reads. Only you can read the file that it writes.
    The command never overwrites a file. It reports what a Connector does not support.

    With --create-account, the kubeconfig can have any credential. The command uses it once, to create a ServiceAccount
    with the role, and a second one that may only issue tokens of the first. The Secret has the token of the second.
    """
    _check_options(file, kubeconfig, output, apply_=apply_)
    if is_for_agent and (read_only or deny_credentials):
        raise click.UsageError("--agent: sets its own limits; leave out --read-only and --deny-credentials")
    _check_account_options(role, account, creates_account=creates_account, dry_run=dry_run)
    path = kubeconfig or file or default_file(os.environ)
    if not path.exists():
        raise click.ClickException(f'kubeconfig "{path}" does not exist; name one: connectorctl import KUBECONFIG')
    target = read_target(path, context, name=name, address=address)
    allowed = [*([READ_ONLY_ROLE] if read_only else []), *roles]
    if is_for_agent:
        permissions = build_agent_permissions(roles)
    else:
        permissions = build_permissions(allowed, deny_credentials=deny_credentials)
    destination = None if apply_ else output or Path("connectors") / f"{target.name}.yaml"
    if destination is not None and destination.exists() and not dry_run:
        raise _exists(destination)
    if role is None:
        credential = read_credential(target)
    else:
        account = account or ObjectKey(_DEFAULT_NAMESPACE, target.name)
        if dry_run:
            write(_render_script(target, account, role, path, context, namespace, permissions, destination))
            return
        if apply_:
            # The account stays on the target if these objects are refused, so the cluster is asked before.
            placeholder = issued_credential(account, _PLACEHOLDER)
            objects = build_objects(target, placeholder, namespace=namespace, permissions=permissions)
            asyncio.run(_create(*objects, dry_run=True))
        token = target_account.create_account(account, role, kubeconfig=path, context=context)
        print_message(f"created ServiceAccount {account} with ClusterRole {role} on {target.address}")
        credential = issued_credential(account, token)
    _store(build_objects(target, credential, namespace=namespace, permissions=permissions), destination)
    if apply_ and _is_denied_in_cluster(target.address):
        print_message(
            f"warning: pods cannot reach {target.address}, so a proxy in a cluster denies it; change it in the "
            "Connector and in the annotation of its Secret, or import with --address"
        )
    for message in () if is_for_agent else _messages(allowed, role, deny_credentials=deny_credentials):
        print_message(message)


def _is_denied_in_cluster(address: str) -> bool:
    policy = AddressPolicy.from_settings(allow=(), deny=(), in_cluster=True)
    return policy.denies(parse_address(address).host)


def _messages(allowed: Sequence[str], role: str | None, *, deny_credentials: bool) -> Iterator[str]:
    """Yield what the Connector allows if that can surprise the user. `role` is that of a created account."""
    exception = " except what --deny-credentials denies" if deny_credentials else ""
    if not allowed and role is not None:
        yield (
            f"the credential can do what ClusterRole {role} of the target covers, in all namespaces, and the Connector "
            f"allows that{exception}; to allow less, set spec.permissions in the Connector"
        )
    elif not allowed:
        yield (
            f"warning: the Connector allows everything that its credential can do{exception}; "
            "limit it with --read-only or --allow ROLE"
        )
    if READ_ONLY_ROLE in allowed and not deny_credentials:
        yield "warning: --read-only allows reading Secrets; add --deny-credentials to deny them"


def _check_options(file: Path | None, kubeconfig: Path | None, output: Path | None, *, apply_: bool) -> None:
    if file is not None and kubeconfig is not None:
        raise click.UsageError("--kubeconfig: the file is named already; leave one of them out")
    if apply_ and output is not None:
        raise click.UsageError("--apply: writes no file; leave out --output")
    if output == Path("-"):
        raise click.UsageError("--output: the credential is not printed; name a file")


def _check_account_options(
    role: str | None, account: ObjectKey | None, *, creates_account: bool, dry_run: bool
) -> None:
    if creates_account and role is None:
        raise click.UsageError("--create-account needs --role, the ClusterRole of the target for the account")
    if not creates_account and (role is not None or account is not None or dry_run):
        raise click.UsageError("--role, --account and --dry-run go with --create-account")


def _render_script(
    target: ImportTarget,
    account: ObjectKey,
    role: str,
    path: Path,
    context: str | None,
    namespace: str,
    permissions: dict[str, Any],
    destination: Path | None,
) -> str:
    credential = issued_credential(account, _PLACEHOLDER)
    secret, connector = build_objects(target, credential, namespace=namespace, permissions=permissions)
    secret["data"]["token"] = target_account.TOKEN_PLACEHOLDER
    return target_account.render_script(
        account, role, [secret, connector], kubeconfig=path, context=context, file=destination
    )


def _store(objects: list[dict[str, Any]], destination: Path | None) -> None:
    """Write both objects into a new file, or create them in the cluster if `destination` is None."""
    secret, connector = objects
    if destination is None:
        asyncio.run(_create(secret, connector))
        metadata = connector["metadata"]
        print_message(f"created Secret and Connector {metadata['namespace']}/{metadata['name']}")
        return
    destination.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        create_private(destination, yaml.safe_dump_all(objects, sort_keys=False))
    except FileExistsError as error:
        raise _exists(destination) from error
    print_message(f"wrote {destination}; check it with: connectorctl check {destination.parent}")


def _exists(path: Path) -> click.ClickException:
    return click.ClickException(f"{path} exists already; name another file with --output")


async def _create(secret: dict[str, Any], connector: dict[str, Any], *, dry_run: bool = False) -> None:
    """Create both objects, or none if one is refused or with `dry_run`. Raises the API server's ApiError."""
    namespace = secret["metadata"]["namespace"]
    configuration = await config_loader.load_configuration(None, environ=os.environ)
    async with KubeClient(configuration, user_agent="connectorctl") as client:
        await _dry_run(client, SECRETS.path(namespace), secret)
        await _dry_run(client, CONNECTORS.path(namespace), connector)
        if dry_run:
            return
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
        print_message(f"warning: Secret {namespace}/{name} was created; see if the Connector exists, too")
        return
    try:
        await client.delete(SECRETS.path(namespace, name), uid=metadata["uid"])
    except ApiError as error:
        print_message(
            f"warning: Secret {namespace}/{name} was created and stays, as it cannot be deleted: {error.message}"
        )
    else:
        print_message(f"Secret {namespace}/{name} was created, and deleted again because the Connector was refused")
