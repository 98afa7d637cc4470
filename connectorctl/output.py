"""Where words go: documents to stdout, messages to stderr; colours on terminals only, and never with NO_COLOR."""

import errno
import json
import os
import sys
from typing import Final

import click
import yaml

EXIT_READER_GONE: Final = 0
"""Exit code where the reader of stdout has had enough, as in `… | head`: that is no failure."""


_HINTS: Final = {
    "Unauthorized": "the kubeconfig's credential has ended or is not valid there; renew it, or name another kubeconfig"
}


class ReaderGoneError(Exception):
    """Nobody reads stdout any more."""


def write(document: str) -> None:
    """To stdout, at once: nothing is left to fail at the end of the process. OSError if it takes nothing."""
    # Python has None for one that was closed, and click passes over it.
    if sys.stdout is None:
        raise OSError(errno.EBADF, "is closed", "stdout")
    try:
        click.echo(document, nl=False)
    except BrokenPipeError as error:
        # click would take it for a failure, and the interpreter complain of what is still buffered.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        raise ReaderGoneError from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, "stdout") from error


def write_value(value: object, form: str) -> None:
    """To stdout as `json` or `yaml`."""
    write(render_value(value, form))


def render_value(value: object, form: str) -> str:
    """The text of `value` (plain containers and scalars) as `json` or `yaml`."""
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text


def print_message(message: str) -> None:
    """To stderr."""
    click.echo(message, err=True)


def print_error(message: str) -> None:
    """The reason why it ends, to stderr."""
    _print_failure("error:", message)


def print_server_error(reason: str, message: str) -> None:
    """What an API server refused, in kubectl's words, to stderr; a `message` that repeats `reason` says nothing."""
    _print_failure(f"Error from server ({reason}):", _HINTS.get(reason, message) if message == reason else message)


def _print_failure(head: str, message: str) -> None:
    colour = False if os.environ.get("NO_COLOR") else None
    click.echo(f"{click.style(head, fg='red', bold=True)} {message}", err=True, color=colour)
