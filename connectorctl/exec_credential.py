"""ExecCredential: the document that a credential plugin prints for its client (KEP-541).

Source: k8s.io/client-go/pkg/apis/clientauthentication, v1.
"""

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from connector_store.domain.base.expiry import read_token_times

GROUP: Final = "client.authentication.k8s.io"
VERSIONS: Final = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
EXEC_INFO_VARIABLE: Final = "KUBERNETES_EXEC_INFO"
"""Environment variable with the client's ExecCredential request."""
EXPIRY_LEEWAY: Final = 30.0
"""Seconds before its expiry that a token counts as expired, because requests take time and clocks differ."""


def exec_credential(token: str, environ: Mapping[str, str]) -> str:
    """Return an ExecCredential with this token as JSON, in the API version that the client requests."""
    status: dict[str, str] = {"token": token}
    expires = read_token_times(token).expires_at
    if expires is not None:
        status["expirationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires - EXPIRY_LEEWAY))
    return json.dumps({"apiVersion": _version(environ), "kind": "ExecCredential", "status": status}) + "\n"


def _version(environ: Mapping[str, str]) -> str:
    try:
        api_version: Any = json.loads(environ.get(EXEC_INFO_VARIABLE, ""))["apiVersion"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return VERSIONS[0]
    return str(api_version) if api_version in VERSIONS else VERSIONS[0]


def parse_exec_credential(document: bytes) -> str | None:
    """Return the token of an ExecCredential, or None if `document` is not one with a token."""
    try:
        value: Any = json.loads(document)
        token = value["status"]["token"] if value["kind"] == "ExecCredential" else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return token.strip() if isinstance(token, str) and token.strip() else None
