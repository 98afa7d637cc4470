"""Output: documents to stdout, messages to stderr. Colours on terminals only, and never with NO_COLOR."""

import errno
import json
import os
import sys
from typing import Final

import click
import yaml

from connector_store.domain.base.printable import printable

EXIT_READER_GONE: Final = 0
"""Exit code if the reader closes stdout early, as in `… | head`. That is not a failure."""


_HINTS: Final = {
    "Unauthorized": "the kubeconfig's credential is invalid or has expired; renew it, or name another kubeconfig"
}


class ReaderGoneError(Exception):
    """The reader of stdout has closed it."""


def write(document: str) -> None:
    """Write to stdout and flush, so that no error can come at the end of the process. Raises OSError on failure."""
    # If stdout is closed at start, it is None in Python, and click would ignore it.
    if sys.stdout is None:
        raise OSError(errno.EBADF, "is closed", "stdout")
    try:
        click.echo(document, nl=False)
    except BrokenPipeError as error:
        # click would report a failure, and the interpreter would fail to flush its buffer at exit.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        raise ReaderGoneError from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, "stdout") from error


def write_value(value: object, form: str) -> None:
    """Write `value` to stdout as `json` or `yaml`."""
    write(render_value(value, form))


def render_value(value: object, form: str) -> str:
    """Render `value` (plain containers and scalars) as `json` or `yaml`, in printable characters."""
    if form == "json":
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        return text if _is_printable(text) else json.dumps(value, indent=2) + "\n"
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1_000_000)
    return text if _is_printable(text) else yaml.safe_dump(value, sort_keys=False, width=1_000_000)


def _is_printable(document: str) -> bool:
    return document.replace("\n", "").isprintable()


def print_message(message: str) -> None:
    """Print a message to stderr."""
    click.echo(printable(message), err=True)


def print_error(message: str) -> None:
    """Print the reason for a failure to stderr."""
    _print_failure("error:", message)


def print_server_error(reason: str, message: str) -> None:
    """Print an API server's refusal to stderr, in kubectl's words. A hint replaces a message that repeats `reason`."""
    _print_failure(f"Error from server ({reason}):", _HINTS.get(reason, message) if message == reason else message)


def _print_failure(head: str, message: str) -> None:
    colour = False if os.environ.get("NO_COLOR") else None
    click.echo(f"{click.style(head, fg='red', bold=True)} {printable(message)}", err=True, color=colour)
