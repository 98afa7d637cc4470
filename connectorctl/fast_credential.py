"""The path of `connectorctl credential` that kubectl runs for each command: few imports, and no command line library.

It handles the arguments that `exec_plugin` writes for a folder, a cluster and an OIDC caller. All others, and settings
from the environment, go through `commands/credential`.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import PROXY_AUDIENCE, ObjectKey
from connectorctl.exec_credential import exec_credential

UNREAD_VARIABLES: Final = ("CONNECTORS_", "CONNECTORCTL_")
"""Prefixes of environment variables with settings and options of a folder, which this path does not read."""


def print_credential(arguments: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Print an ExecCredential and return the exit code, or return None if the arguments need the full command."""
    try:
        token = _fetch(arguments, environ)
    except (ParseError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if token is None:
        return None
    try:
        sys.stdout.write(exec_credential(token, environ))
        sys.stdout.flush()
    except (OSError, AttributeError) as error:
        sys.stderr.write(f"error: stdout: {getattr(error, 'strerror', None) or 'is closed'}\n")
        return 1
    return 0


def _fetch(arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    match [*arguments]:
        case ["--oidc", provider, "--audience", audience]:
            from connectorctl.oidc_token import parse_token_provider

            return parse_token_provider(provider).fetch(environ, audience)
        case [key, "--source", folder, "--ttl", ttl, *confdir] if folder.startswith("/") and _is_confdir(confdir):
            if any(name.startswith(UNREAD_VARIABLES) for name in environ):
                return None
            return _sign(key, ttl, confdir[1:])
        case [key, "--source", source, *options] if source.partition(":")[0] == "kubernetes" and len(options) % 2 == 0:
            if any(name.startswith(UNREAD_VARIABLES) for name in environ):
                return None
            return _request(key, source, dict(zip(options[::2], options[1::2], strict=True)), environ)
    return None


def _request(key: str, source: str, options: dict[str, str], environ: Mapping[str, str]) -> str | None:
    """Request a token from a cluster. Return None for options or a kubeconfig that need the full command."""
    ttl = options.get("--ttl", "").removesuffix("s")
    is_known = options.keys() <= {"--kubeconfig", "--context", "--ttl", "--service-account", "--confdir"}
    if not (is_known and ttl.isascii() and ttl.isdigit() and "--service-account" in options):
        return None
    from connector_store.kube.errors import ApiError
    from connector_store.kube.resources import CONNECTORS
    from connectorctl.caller_token import create_caller_token
    from connectorctl.small_client import SmallClient, UnsupportedConfigurationError, load_small_configuration, run

    connector, account = ObjectKey.parse(key), ObjectKey.parse(options["--service-account"])
    context = options.get("--context") or source.partition(":")[2] or None
    try:
        with SmallClient(load_small_configuration(context, options.get("--kubeconfig"), environ)) as client:
            raw = run(client.get(CONNECTORS.path(connector.namespace, connector.name)))
            return run(create_caller_token(client, raw, account, int(ttl), PROXY_AUDIENCE))
    except UnsupportedConfigurationError:
        return None
    except ApiError as error:
        raise ParseError("", error.message) from None


def _is_confdir(arguments: list[str]) -> bool:
    return not arguments or (len(arguments) == 2 and arguments[0] == "--confdir")


def _sign(key: str, ttl: str, confdir: list[str]) -> str | None:
    """Sign a token without reading the folder: the proxy refuses a Connector that is not there."""
    seconds = ttl.removesuffix("s")
    if not (seconds.isascii() and seconds.isdigit()):
        return None
    from connector_store.folder.signing_key import SigningKey

    folder = Path(confdir[0] if confdir else "~/.mitmproxy").expanduser()
    signing_key = SigningKey.load_or_create(folder)
    return signing_key.issue(ObjectKey.parse(key), ttl=int(seconds), now=time.time(), audience=PROXY_AUDIENCE)
