"""kubectl's credential plugins (KEP-541): the stanza of a kubeconfig that runs us, and what we print then.

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
from connectorctl.identity import IdentitySource
from connectorctl.options import Caller, Where

GROUP: Final = "client.authentication.k8s.io"
VERSIONS: Final = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
REQUEST: Final = "KUBERNETES_EXEC_INFO"
"""The variable in which a client says what it wants."""
LEEWAY: Final = 30.0
"""Seconds before its end that a token counts as ended: requests are on their way, clocks differ."""


Plugin = Callable[[ObjectKey], Mapping[str, object]]
"""`users[].user.exec` for a Connector."""


def plugin_of(where: Where, caller: Caller, cluster: bool) -> Plugin:
    """`users[].user.exec` for a Connector: this program with the options of now, its paths made absolute."""
    options = [*_source(where, cluster), "--ttl", f"{caller.ttl}s"]
    if caller.service_account is not None:
        options += ["--service-account", str(caller.service_account)]
    if caller.confdir is not None:
        options += ["--confdir", str(caller.confdir.expanduser().absolute())]

    return lambda key: _stanza(str(key), *options)


def outside_plugin(identity: IdentitySource, audience: str) -> Plugin:
    """The same for a caller whom an issuer has named: the token is the same for each Connector."""
    return lambda key: _stanza("--oidc", identity.text, "--audience", audience)


def _stanza(*arguments: str) -> Mapping[str, object]:
    return {
        "apiVersion": VERSIONS[0],
        "command": str(_program()),
        "args": ["credential", *arguments],
        "interactiveMode": "Never",
        "installHint": f"this kubeconfig needs {PROGRAM} of Kubernetes Connector",
    }


def exec_credential(token: str, environ: Mapping[str, str]) -> str:
    """An ExecCredential with this token as JSON, in the version that the client asks for."""
    status: dict[str, str] = {"token": token}
    expires = read_token_times(token).expires_at
    if expires is not None:
        status["expirationTimestamp"] = rfc3339.format_time(datetime.fromtimestamp(expires - LEEWAY, UTC))
    return json.dumps({"apiVersion": _version(environ), "kind": "ExecCredential", "status": status}) + "\n"


def _version(environ: Mapping[str, str]) -> str:
    try:
        asked: Any = json.loads(environ.get(REQUEST, ""))["apiVersion"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return VERSIONS[0]
    return str(asked) if asked in VERSIONS else VERSIONS[0]


def _source(where: Where, cluster: bool) -> list[str]:
    if not cluster:
        folder = "connectors" if where.source == "auto" else where.source
        return ["--source", str(Path(folder).expanduser().absolute())]
    options = ["--source", "kubernetes" if where.source == "auto" else where.source]
    if where.kubeconfig is not None:
        options += ["--kubeconfig", str(Path(where.kubeconfig).expanduser().absolute())]
    if where.context is not None:
        options += ["--context", where.context]
    return options


def _program() -> Path:
    """`connectorctl` beside the interpreter, wherever clients look for programs."""
    return Path(sys.executable).absolute().with_name(PROGRAM)
