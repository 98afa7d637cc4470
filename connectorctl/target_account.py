"""Account on a target for a Connector, and a second account whose only right is to issue tokens of the first.

The objects are those of docs/quickstart.md. `create_account` creates them with the user's own kubeconfig, and
`render_script` prints commands that do the same.
"""

import asyncio
import base64
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import SECRETS
from connectorctl.output import print_message, render_value

TOKEN_TIMEOUT: Final = 60.0
"""Seconds for the target to write the token of the second account into its Secret."""
TOKEN_PLACEHOLDER: Final = "TOKEN-OF-THE-ACCOUNT"  # noqa: S105 - not a token
"""Value of the token in the documents of a script, which the script replaces."""
_ALREADY_EXISTS: Final = "AlreadyExists"
_POLL_INTERVAL: Final = 0.25
_RBAC: Final = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class TargetObject:
    """An object to create, and the path of its collection."""

    path: str
    manifest: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.manifest['kind']} {self.manifest['metadata']['name']}"


def build_account(account: ObjectKey, role: str) -> list[TargetObject]:
    """Return the objects: two ServiceAccounts, their roles, and the Secret for the token of the second."""
    namespace, name = account
    issuer = f"{name}-minter"
    core, rbac = f"/api/v1/namespaces/{namespace}", f"/apis/{_RBAC}/v1"
    in_namespace = {"namespace": namespace}
    rule = {
        "apiGroups": [""],
        "resources": ["serviceaccounts/token"],
        "resourceNames": [name],
        "verbs": ["create"],
    }
    token_secret = {
        **_object("v1", "Secret", issuer, in_namespace, {"kubernetes.io/service-account.name": issuer}),
        "type": "kubernetes.io/service-account-token",
    }
    return [
        TargetObject(f"{core}/serviceaccounts", _object("v1", "ServiceAccount", name, in_namespace)),
        TargetObject(
            f"{rbac}/clusterrolebindings",
            {**_object(f"{_RBAC}/v1", "ClusterRoleBinding", name), **_binding("ClusterRole", role, account)},
        ),
        TargetObject(f"{core}/serviceaccounts", _object("v1", "ServiceAccount", issuer, in_namespace)),
        TargetObject(
            f"{rbac}/namespaces/{namespace}/roles",
            {**_object(f"{_RBAC}/v1", "Role", issuer, in_namespace), "rules": [rule]},
        ),
        TargetObject(
            f"{rbac}/namespaces/{namespace}/rolebindings",
            {
                **_object(f"{_RBAC}/v1", "RoleBinding", issuer, in_namespace),
                **_binding("Role", issuer, ObjectKey(namespace, issuer)),
            },
        ),
        TargetObject(f"{core}/secrets", token_secret),
    ]


def create_account(account: ObjectKey, role: str, *, kubeconfig: Path, context: str | None) -> bytes:
    """Create the account on the target, and return the token of the second account.

    Objects that exist are not changed: ApiError names the first one. Objects that were created before an error stay,
    and a message names them.
    """
    return asyncio.run(_create(account, role, kubeconfig, context))


async def _create(account: ObjectKey, role: str, kubeconfig: Path, context: str | None) -> bytes:
    configuration = await config_loader.load_configuration(context, kubeconfig=str(kubeconfig))
    objects = build_account(account, role)
    created: list[TargetObject] = []
    async with KubeClient(configuration, user_agent="connectorctl") as client:
        await client.get(f"/apis/{_RBAC}/v1/clusterroles/{role}")  # a binding to an absent role would be created
        try:
            for each in objects:
                await client.create(each.path, dict(each.manifest))
                created.append(each)
            return await _read_token(client, SECRETS.path(account.namespace, f"{account.name}-minter"))
        except (ApiError, ParseError) as error:
            if isinstance(error, ApiError) and error.reason == _ALREADY_EXISTS:
                existing = objects[len(created)]
                print_message(f"warning: the target has {existing} already; delete it, or name another --account")
            if created:
                names = ", ".join(map(str, created))
                print_message(f"warning: the target keeps these; delete them before you try again: {names}")
            raise


async def _read_token(client: KubeClient, path: str) -> bytes:
    deadline = time.monotonic() + TOKEN_TIMEOUT
    while time.monotonic() < deadline:
        secret = await client.get(path)
        if token := (secret.get("data") or {}).get("token"):
            return base64.b64decode(token)
        await asyncio.sleep(_POLL_INTERVAL)
    raise ParseError(path, f"got no token within {TOKEN_TIMEOUT:g} s; see that the target's controllers run")


def render_script(
    account: ObjectKey,
    role: str,
    objects: Sequence[Mapping[str, Any]],
    *,
    kubeconfig: Path,
    context: str | None,
    file: Path | None,
) -> str:
    """Return a script for sh that creates the account on the target, and then `objects`, a Secret and a Connector.

    The token in the Secret is TOKEN_PLACEHOLDER. `file` is the file for the objects; None creates them in the cluster.
    """
    options = ["--kubeconfig", str(kubeconfig), *(["--context", context] if context else [])]
    kubectl = shlex.join(["kubectl", *options])
    secret = f"{account.name}-minter --namespace {account.namespace}"
    # The shell replaces nothing in a document whose delimiter is in quotes.
    substitute = f"sed \"s|{TOKEN_PLACEHOLDER}|$TOKEN|\" <<'MANIFEST'"
    destination = "| kubectl create --filename -" if file is None else f"> {shlex.quote(str(file))}"
    return (
        f"{kubectl} create --filename - <<'MANIFEST'\n"
        f"{_documents([each.manifest for each in build_account(account, role)])}MANIFEST\n"
        f"{kubectl} wait secret/{secret} --for 'jsonpath={{.data.token}}' --timeout 1m\n"
        f"TOKEN=$({kubectl} get secret {secret} --output 'jsonpath={{.data.token}}')\n"
        + ("" if file is None else f"umask 077; mkdir -p {shlex.quote(str(file.parent))}\n")
        + f"{substitute} {destination}\n{_documents(objects)}MANIFEST\n"
    )


def _documents(objects: Sequence[Mapping[str, Any]]) -> str:
    return "---\n".join(render_value(dict(each), "yaml") for each in objects)


def _object(
    version: str, kind: str, name: str, metadata: Mapping[str, str] = {}, annotations: Mapping[str, str] = {}
) -> dict[str, Any]:
    full_metadata = {"name": name, **metadata, **({"annotations": dict(annotations)} if annotations else {})}
    return {"apiVersion": version, "kind": kind, "metadata": full_metadata}


def _binding(kind: str, role: str, account: ObjectKey) -> dict[str, Any]:
    return {
        "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "namespace": account.namespace, "name": account.name}],
    }
