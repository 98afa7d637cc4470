"""Tokens that whoever runs us already has: of a CI job, of a pod, or what a command prints. Nothing is kept on disk.

github          the job's token of GitHub Actions; the job needs `permissions: {id-token: write}`
gitlab[:NAME]   GitLab's `id_tokens` variable, CONNECTORS_ID_TOKEN unless named
file:PATH       a file, such as a projected ServiceAccount token
command:WORDS   what a command prints
"""

import json
import shlex
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connector_store.domain.base.errors import ParseError

DEFAULT_AUDIENCE: Final = "connectors"
VARIABLE: Final = "CONNECTORS_ID_TOKEN"
"""Of GitLab, unless another is named."""
TIMEOUT: Final = 30.0
"""Seconds for a CI service's answer, and for a command."""
MAX_TOKEN: Final = 64 * 1024
"""Bytes that are read of a file, an answer or an output."""
_URL: Final = "ACTIONS_ID_TOKEN_REQUEST_URL"
_REQUEST_TOKEN: Final = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"  # noqa: S105 - the name of a variable
KINDS: Final = "github, gitlab[:VARIABLE], file:PATH or command:COMMAND"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySource:
    """Where the token comes from; `text` is how it was written, with a path made absolute."""

    text: str
    read: Callable[[Mapping[str, str], str], str]
    """The environment and the audience -> the token; ParseError says what the job, or the file, lacks."""


def parse_identity(text: str) -> IdentitySource:
    """ParseError if it is none of the above."""
    kind, _, rest = text.partition(":")
    match kind:
        case "github" if not rest:
            return IdentitySource(text=text, read=_github)
        case "gitlab":
            variable = rest or VARIABLE
            return IdentitySource(text=text, read=lambda environ, audience: _gitlab(environ, audience, variable))
        case "file" if rest:
            path = Path(rest).expanduser().absolute()
            return IdentitySource(text=f"file:{path}", read=lambda environ, audience: _file(path))
        case "command" if rest.strip():
            return IdentitySource(text=text, read=lambda environ, audience: _command(rest))
    raise ParseError("oidc", f"is none of: {KINDS}")


def _github(environ: Mapping[str, str], audience: str) -> str:
    """docs.github.com, "OpenID Connect reference": a GET with the runner's own token answers {"value": TOKEN}."""
    url, token = environ.get(_URL), environ.get(_REQUEST_TOKEN)
    if not url or not token:
        raise ParseError(
            _URL, "is not there: run this in a job of GitHub Actions that has permissions: id-token: write"
        )
    if not url.startswith("https://"):
        raise ParseError(_URL, "is not an https URL")
    from connector_store.trust import TrustStore

    query = urllib.parse.urlencode({"audience": audience})
    request = urllib.request.Request(f"{url}&{query}", headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - https
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=TrustStore().ssl_context(None)) as answer:  # noqa: S310 - https
            found = json.loads(answer.read(MAX_TOKEN))
        return _checked(found["value"], "the runner's answer")
    except urllib.error.HTTPError as error:
        error.close()
        raise ParseError(
            _URL, f"the runner answered {error.code}; the job needs permissions: id-token: write"
        ) from None
    except OSError as error:
        raise ParseError(_URL, f"the runner does not answer: {getattr(error, 'reason', error)}") from None
    except (ValueError, KeyError, TypeError):
        raise ParseError(_URL, "the runner answered no token") from None


def _gitlab(environ: Mapping[str, str], audience: str, variable: str) -> str:
    token = environ.get(variable)
    if not token:
        raise ParseError(variable, f"is not there: give the job id_tokens: {{{variable}: {{aud: {audience}}}}}")
    return _checked(token, variable)


def _file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _checked(file.read(MAX_TOKEN).decode("ascii", "replace"), str(path))
    except OSError as error:
        raise ParseError(str(path), f"{error.strerror}") from None


def _command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ParseError("oidc", f"command: {error}") from None
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, timeout=TIMEOUT, check=False)  # noqa: S603 - the user's own
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"did not end within {TIMEOUT:g} s"
        raise ParseError("oidc", f"command {words[0]}: {reason}") from None
    if done.returncode != 0:
        raise ParseError("oidc", f"command {words[0]}: exit code {done.returncode}; its own words are above")
    return _checked(done.stdout[:MAX_TOKEN].decode("ascii", "replace"), f"the output of {words[0]}")


def _checked(token: object, what: str) -> str:
    found = token.strip() if isinstance(token, str) else ""
    if not found or not found.isascii() or not found.isprintable() or " " in found:
        raise ParseError(what, "is no token")
    return found
