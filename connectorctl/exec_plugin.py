"""Exec credential plugin (KEP-541): the entry in a kubeconfig that runs this program, and the program's output.

Source: k8s.io/client-go/pkg/apis/clientauthentication, v1.
"""

import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from connector_store.domain.base import rfc3339
from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.base.names import ObjectKey
from connectorctl.command import PROGRAM
from connectorctl.oidc_token import TokenProvider
from connectorctl.option_values import CallerOptions, SourceOptions

GROUP: Final = "client.authentication.k8s.io"
VERSIONS: Final = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
EXEC_INFO_VARIABLE: Final = "KUBERNETES_EXEC_INFO"
"""Environment variable with the client's ExecCredential request."""
EXPIRY_LEEWAY: Final = 30.0
"""Seconds before its expiry that a token counts as expired, because requests take time and clocks differ."""


ExecPlugin = Callable[[ObjectKey], Mapping[str, object]]
"""Builds `users[].user.exec` for a Connector."""


def make_plugin(source_options: SourceOptions, caller_options: CallerOptions, is_cluster: bool) -> ExecPlugin:
    """Return a builder that runs this program with the current options. Paths become absolute."""
    options = [*_source_arguments(source_options, is_cluster), "--ttl", f"{caller_options.ttl}s"]
    if caller_options.service_account is not None:
        options += ["--service-account", str(caller_options.service_account)]
    if caller_options.confdir is not None:
        options += ["--confdir", str(caller_options.confdir.expanduser().absolute())]

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
        "installHint": f"this kubeconfig needs {PROGRAM} of Kubernetes Connector",
    }


def exec_credential(token: str, environ: Mapping[str, str]) -> str:
    """Return an ExecCredential with this token as JSON, in the API version that the client requests."""
    status: dict[str, str] = {"token": token}
    expires = read_token_times(token).expires_at
    if expires is not None:
        status["expirationTimestamp"] = rfc3339.format_time(datetime.fromtimestamp(expires - EXPIRY_LEEWAY, UTC))
    return json.dumps({"apiVersion": _version(environ), "kind": "ExecCredential", "status": status}) + "\n"


def _version(environ: Mapping[str, str]) -> str:
    try:
        api_version: Any = json.loads(environ.get(EXEC_INFO_VARIABLE, ""))["apiVersion"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return VERSIONS[0]
    return str(api_version) if api_version in VERSIONS else VERSIONS[0]


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
    """Return `connectorctl` next to the interpreter, so that the client's PATH does not matter."""
    return Path(sys.executable).absolute().with_name(PROGRAM)
