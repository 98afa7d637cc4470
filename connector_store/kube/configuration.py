"""Configuration of a client: the API server's address, its trust, and our credential."""

import math
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

TOKEN_FILE_PERIOD: Final = 60.0
"""Seconds between two reads of a token file. Source: client-go, transport/token_source.go."""


class CredentialError(Exception):
    """The credential is not usable now. The message says what to fix and contains no credential."""


async def _no_authorization() -> str | None:
    return None


class Configuration(NamedTuple):
    """Address, trust and credential for one API server.

    `authorization` returns the Authorization header for one request. It raises OSError or CredentialError if it cannot.
    """

    host: str
    """URL without a trailing slash."""
    ssl_ca_cert: str | None = None
    """File with the CAs in PEM. None means the system's CAs."""
    ca_data: str = ""
    """CAs in PEM, in addition to those of the file."""
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = None
    """URL of the proxy. None means the proxy of the environment, if it names one."""
    authorization: Callable[[], Awaitable[str | None]] = _no_authorization

    def ssl_context(self) -> ssl.SSLContext:
        """Create a TLS context from the current files. Raises OSError or ssl.SSLError if they are not usable."""
        context = ssl.create_default_context(cafile=self.ssl_ca_cert, cadata=self.ca_data or None)
        # kubectl accepts CAs without key usage or authority key id, which OpenSSL's strict mode refuses (RFC 5280).
        # For Go (crypto/x509), a pinned intermediate is a trust anchor.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.cert_file:
            context.load_cert_chain(self.cert_file, keyfile=self.key_file)
        if not self.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class TokenFile:
    """Bearer token in a file. The file is read every minute, because kubelet and CSI drivers replace it."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """Read the token. Raises OSError or CredentialError if there is none. `now` is a monotonic clock."""
        self._path = path
        self._now = now
        self._read_at = -math.inf
        self._header = ""
        self._read()

    async def authorization(self) -> str:
        if self._now() - self._read_at >= TOKEN_FILE_PERIOD:
            self._read()
        return self._header

    def _read(self) -> None:
        self._read_at = self._now()
        # A kilobyte on tmpfs: a thread would cost more than the read.
        token = self._path.read_text().strip()
        if not token:
            raise CredentialError(f"the token file {self._path} is empty")
        self._header = f"Bearer {token}"
