"""Context of a kubeconfig that leads to a Connector, and the tokens that a client would send with it."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult, unquote, urlsplit

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import ObjectKey
from connectorctl.exec_credential import parse_exec_credential
from connectorctl.kubeconfig_fields import find_context, find_entry, load_kubeconfig, read_data, read_file
from connectorctl.kubeconfig_file import connector_key

PLUGIN_TIMEOUT: Final = 30.0
"""Seconds for an exec credential plugin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectorContext:
    """Context of a kubeconfig. `proxy` is None for direct access, where the server is the proxy.

    `user` is the kubeconfig's user. `folder` is the one that relative files start from.
    """

    name: str
    key: ObjectKey
    server: SplitResult
    proxy: SplitResult | None
    ca: bytes
    namespace: str
    user: Fields = field(repr=False)
    folder: Path

    @classmethod
    def read(cls, path: Path, context: str | None) -> Self:
        """Read the context `context`, by default the current one. Raises ParseError or OSError."""
        config = load_kubeconfig(path)
        name, entry = find_context(config, context)
        cluster = find_entry(config, "clusters", entry.text("cluster") or "", "cluster")
        key = connector_key({name: cluster.text(name) for name in ("proxy-url", "server")})
        if key is None:
            raise ParseError(
                "", f'context "{name}" does not lead to a Connector: neither its proxy-url nor its server names one'
            )
        proxy = cluster.text("proxy-url")
        ca = read_data(cluster, "certificate-authority", path.parent)
        return cls(
            name=name,
            key=key,
            server=urlsplit(cluster.text("server") or ""),
            proxy=urlsplit(proxy) if proxy is not None else None,
            ca=ca or b"",
            namespace=entry.text("namespace") or "default",
            user=find_entry(config, "users", entry.text("user") or "", "user"),
            folder=path.parent,
        )

    @property
    def connect_token(self) -> str:
        """Token of the CONNECT request."""
        return unquote(self.proxy.password or "") if self.proxy is not None else ""

    def request_token(self) -> str:
        """Return the token of requests, from the file or plugin that the kubeconfig names. Raises ParseError."""
        file = self.user.text("tokenFile")
        if file is not None:
            return read_file(self.user.path_of("tokenFile"), self.folder / file).decode("ascii", "replace").strip()
        if self.user.child("exec"):
            return run_plugin(self.user.child("exec"), self.folder)
        return self.user.text("token") or ""


class NoTokenError(ParseError):
    """A plugin printed another credential than a token, or none."""


def run_plugin(plugin: Fields, folder: Path) -> str:
    """Run an exec credential plugin, and return its token. Raises NoTokenError if it gives none, or ParseError."""
    command = plugin.text("command") or ""
    # As client-go does, a command with a slash is relative to the kubeconfig.
    program = str((folder / command).absolute()) if "/" in command else command
    info = {
        "apiVersion": plugin.text("apiVersion"),
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    variables = {item.text("name") or "": item.text("value") or "" for item in plugin.items("env")}
    environment = {**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)}
    try:
        done = subprocess.run(  # noqa: S603 - kubectl runs it, too
            [program, *plugin.texts("args")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=PLUGIN_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise ParseError(plugin.path_of("command"), f"cannot run {command}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ParseError(plugin.path_of("command"), f"{command} did not end within {PLUGIN_TIMEOUT:g} s") from None
    if done.returncode != 0:
        raise ParseError(plugin.path_of("command"), f"{command} ended with exit code {done.returncode}")
    token = parse_exec_credential(done.stdout)
    if token is None:
        raise NoTokenError(plugin.path_of("command"), f"{command} printed no ExecCredential with a token")
    return token
