"""File with the URL of a proxy's sessions page, with its secret. The proxy writes it, and connectorctl reads it."""

import contextlib
from pathlib import Path
from typing import Final

from connector_store.private_files import write_private

FILE: Final = "connector-sessions-url"
"""Name of the file, next to the proxy's CA. Only its owner can read it."""
MAX_LENGTH: Final = 1024


def write_url(confdir: Path, url: str) -> Path:
    """Write the URL to a file of mode 0600, and return its path."""
    path = confdir / FILE
    write_private(path, url)
    return path


def read_url(confdir: Path) -> str | None:
    """Return the URL, or None if no proxy wrote one."""
    with contextlib.suppress(FileNotFoundError), (confdir / FILE).open() as stream:
        return stream.read(MAX_LENGTH).strip()
    return None


def remove_url(confdir: Path, url: str) -> None:
    """Remove the file, unless another proxy has written it since."""
    if read_url(confdir) == url:
        with contextlib.suppress(FileNotFoundError):
            (confdir / FILE).unlink()
