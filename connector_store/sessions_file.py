"""Files with the URLs of sessions pages, with their secrets. Each proxy writes one, and connectorctl reads them all."""

import contextlib
import socket
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from connector_store.private_files import write_private

PREFIX: Final = "connector-sessions-url-"
"""Name of a file, before its port. It is next to the proxy's CA, and only its owner can read it."""
MAX_LENGTH: Final = 1024
CONNECT_TIMEOUT: Final = 1.0
"""Seconds to wait for a connection on loopback. It takes as long only if the queue of the listener is full."""


def write_url(confdir: Path, url: str) -> Path:
    """Write the URL to a file of mode 0600, and return its path. Remove the files of proxies that were killed."""
    for other in _paths(confdir):
        if _is_refused(_read(other)):
            with contextlib.suppress(OSError):
                other.unlink()
    path = _path(confdir, url)
    write_private(path, url)
    return path


def read_urls(confdir: Path) -> list[str]:
    """Return the URLs of all proxies with this confdir, of the files that can be read."""
    return [url for path in _paths(confdir) if (url := _read(path))]


def remove_url(confdir: Path, url: str) -> None:
    """Remove the file, unless another proxy has written it since."""
    path = _path(confdir, url)
    if _read(path) == url:
        path.unlink(missing_ok=True)


def _path(confdir: Path, url: str) -> Path:
    return confdir / f"{PREFIX}{urlsplit(url).port}"


def _paths(confdir: Path) -> list[Path]:
    return sorted(confdir.glob(f"{PREFIX}*"))


def _read(path: Path) -> str:
    with contextlib.suppress(OSError), path.open(errors="replace") as stream:
        return stream.read(MAX_LENGTH).strip()
    return ""


def _is_refused(url: str) -> bool:
    """Return whether nothing listens at the URL, or the text is not a URL."""
    try:
        parts = urlsplit(url)
        socket.create_connection((parts.hostname, parts.port), CONNECT_TIMEOUT).close()
    except (ConnectionRefusedError, ValueError):
        return True
    except OSError:
        return False
    return False
