"""OIDC tokens that the user already has: of a CI job, of a pod, or from a command. Nothing is stored on disk.

github          the job's token of GitHub Actions; the job needs `permissions: {id-token: write}`
gitlab[:NAME]   GitLab's `id_tokens` variable, CONNECTORS_ID_TOKEN unless named
file:PATH       a file, such as a projected ServiceAccount token
command:WORDS   what a command prints: a token, or an ExecCredential as kubectl's credential plugins do

This module is on the path of `connectorctl credential`, so a function imports the libraries that only it needs.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from connector_store.domain.base.errors import ParseError
from connectorctl.exec_credential import parse_exec_credential

DEFAULT_AUDIENCE: Final = "connectors"
GITLAB_VARIABLE: Final = "CONNECTORS_ID_TOKEN"
"""Default variable of `gitlab`."""
TIMEOUT: Final = 30.0
"""Seconds for the response of a CI service, and for a command."""
MAX_TOKEN_SIZE: Final = 64 * 1024
"""Bytes to read from a file, a response or the output of a command."""
_GITHUB_URL_VARIABLE: Final = "ACTIONS_ID_TOKEN_REQUEST_URL"
_GITHUB_TOKEN_VARIABLE: Final = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105 - the name of a variable
KINDS: Final = "github, gitlab[:VARIABLE], file:PATH or command:COMMAND"


class TokenProvider(NamedTuple):
    """Provider of the token. `text` is its value on the command line, with an absolute path."""

    text: str
    fetch: Callable[[Mapping[str, str], str], str]
    """Return the token for an environment and an audience. Raises ParseError with what the job or file lacks."""


def parse_token_provider(text: str) -> TokenProvider:
    """Parse the value of --oidc. Raises ParseError if it is not one of the above."""
    kind, _, argument = text.partition(":")
    match kind:
        case "github" if not argument:
            return TokenProvider(text=text, fetch=_fetch_github)
        case "gitlab":
            variable = argument or GITLAB_VARIABLE
            return TokenProvider(text=text, fetch=lambda environ, audience: _read_gitlab(environ, audience, variable))
        case "file" if argument:
            path = Path(argument).expanduser().absolute()
            return TokenProvider(text=f"file:{path}", fetch=lambda environ, audience: _read_file(path))
        case "command" if argument.strip():
            return TokenProvider(text=text, fetch=lambda environ, audience: _run_command(argument))
    raise ParseError("oidc", f"is not one of: {KINDS}")


def _fetch_github(environ: Mapping[str, str], audience: str) -> str:
    """Get the job's token: a GET with the runner's token returns {"value": TOKEN}.

    Source: docs.github.com, "OpenID Connect reference".
    """
    url, token = environ.get(_GITHUB_URL_VARIABLE), environ.get(_GITHUB_TOKEN_VARIABLE)
    if not url or not token:
        raise ParseError(
            _GITHUB_URL_VARIABLE,
            "is not set: run this in a job of GitHub Actions that has permissions: id-token: write",
        )
    if not url.startswith("https://"):
        raise ParseError(_GITHUB_URL_VARIABLE, "is not an https URL")
    import json
    import ssl
    import urllib.error
    import urllib.parse
    import urllib.request

    # Unlike create_default_context, SSLContext does not read SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    query = urllib.parse.urlencode({"audience": audience})
    request = urllib.request.Request(f"{url}&{query}", headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - https
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=context) as response:  # noqa: S310 - https
            document = json.loads(response.read(MAX_TOKEN_SIZE))
        return _validate(document["value"], "the runner's answer")
    except urllib.error.HTTPError as error:
        error.close()
        raise ParseError(
            _GITHUB_URL_VARIABLE, f"the runner answered {error.code}; the job needs permissions: id-token: write"
        ) from None
    except OSError as error:
        raise ParseError(
            _GITHUB_URL_VARIABLE, f"the runner does not answer: {getattr(error, 'reason', error)}"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ParseError(_GITHUB_URL_VARIABLE, "the runner's answer has no token") from None


def _read_gitlab(environ: Mapping[str, str], audience: str, variable: str) -> str:
    token = environ.get(variable)
    if not token:
        raise ParseError(variable, f"is not set: give the job id_tokens: {{{variable}: {{aud: {audience}}}}}")
    return _validate(token, variable)


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _validate(file.read(MAX_TOKEN_SIZE).decode("ascii", "replace"), str(path))
    except OSError as error:
        raise ParseError(str(path), f"{error.strerror}") from None


def _run_command(text: str) -> str:
    """Run a command without a shell. Its stderr and stdin stay those of this process, for a login."""
    import shlex
    import subprocess

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ParseError("oidc", f"command: {error}") from None
    try:
        process = subprocess.run(words, stdout=subprocess.PIPE, timeout=TIMEOUT, check=False)  # noqa: S603 - the user's own
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"did not end within {TIMEOUT:g} s"
        raise ParseError("oidc", f"command {words[0]}: {reason}") from None
    if process.returncode != 0:
        raise ParseError("oidc", f"command {words[0]}: exit code {process.returncode}; read its own message above")
    output = process.stdout[:MAX_TOKEN_SIZE]
    token = parse_exec_credential(output) or output.decode("ascii", "replace")
    return _validate(token, f"the output of {words[0]}")


def _validate(token: object, origin: str) -> str:
    text = token.strip() if isinstance(token, str) else ""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ParseError(origin, "is not a token")
    return text
