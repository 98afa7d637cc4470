"""Exec credential plugin (KEP-541): the entry in a kubeconfig that runs this program."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from connector_store.domain.base.names import ObjectKey
from connectorctl.command import PROGRAM
from connectorctl.exec_credential import VERSIONS
from connectorctl.oidc_token import TokenProvider
from connectorctl.option_values import CallerOptions, SourceOptions

ExecPlugin = Callable[[ObjectKey], Mapping[str, object]]
"""Builds `users[].user.exec` for a Connector."""


def make_plugin(source_options: SourceOptions, caller_options: CallerOptions, is_cluster: bool) -> ExecPlugin:
    """Return a builder that runs this program with the current options. Paths become absolute."""
    options = [*_source_arguments(source_options, is_cluster), "--ttl", f"{caller_options.ttl}s"]
    if caller_options.service_account is not None:
        options += ["--service-account", str(caller_options.service_account)]
    if caller_options.confdir is not None:
        options += ["--confdir", str(caller_options.confdir.expanduser().absolute())]
    if caller_options.as_caller is not None:
        options += ["--as-caller", caller_options.as_caller]

    return lambda key: _exec_config(str(key), *options)


def make_oidc_plugin(provider: TokenProvider, audience: str) -> ExecPlugin:
    """Return a builder for an OIDC caller, whose token is the same for each Connector."""
    return lambda key: _exec_config("--oidc", provider.text, "--audience", audience)


def _exec_config(*arguments: str) -> Mapping[str, object]:
    return {
        "apiVersion": VERSIONS[0],
        "command": str(_program_path()),
        "args": ["credential", *arguments],
        "interactiveMode": "Never",
        "installHint": f"install {PROGRAM} of Kubernetes Connector, which this kubeconfig runs for a token",
    }


def _source_arguments(source_options: SourceOptions, is_cluster: bool) -> list[str]:
    if not is_cluster:
        folder = "connectors" if source_options.source == "auto" else source_options.source
        return ["--source", str(Path(folder).expanduser().absolute())]
    options = ["--source", "kubernetes" if source_options.source == "auto" else source_options.source]
    if source_options.kubeconfig is not None:
        options += ["--kubeconfig", str(Path(source_options.kubeconfig).expanduser().absolute())]
    if source_options.context is not None:
        options += ["--context", source_options.context]
    return options


def _program_path() -> Path:
    """Return the one-file program, or else `connectorctl` next to the interpreter: the PATH of clients may differ."""
    archive = getattr(__spec__.loader, "archive", None)  # of zipimport.zipimporter
    return Path(archive).absolute() if archive is not None else Path(sys.executable).absolute().with_name(PROGRAM)
