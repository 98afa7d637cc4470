"""Where an API server is, how it is trusted, and who we are there."""

import math
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOKEN_FILE_PERIOD: Final = 60.0
"""Seconds between looks at a token file, as client-go (transport/token_source.go)."""


class CredentialError(Exception):
    """No credential at the moment; the message says what to mend, and holds none."""


async def _no_authorization() -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """`authorization` gives the header of that name for one request; OSError or CredentialError if it cannot."""

    host: str
    """URL, without a slash at its end."""
    ssl_ca_cert: str | None = None
    """File with the CAs, PEM; None: those of the system."""
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    tls_server_name: str | None = None
    proxy: str | None = None
    """URL; None: that of the environment, if it names one."""
    authorization: Callable[[], Awaitable[str | None]] = _no_authorization

    def ssl_context(self) -> ssl.SSLContext:
        """TLS with the CA and the certificate as their files are now; OSError or ssl.SSLError if they are no good."""
        context = ssl.create_default_context(cafile=self.ssl_ca_cert)
        # kubectl accepts CAs without key usage or authority key id, which OpenSSL's strict mode refuses (RFC 5280),
        # and a pinned intermediate is an anchor for Go (crypto/x509).
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.cert_file:
            context.load_cert_chain(self.cert_file, keyfile=self.key_file)
        if not self.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class TokenFile:
    """A bearer token in a file, read again every minute: CSI drivers and kubelet replace its content."""

    def __init__(self, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        """OSError or CredentialError if there is no token now. `now` is a clock that nobody sets back."""
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
        # A file of a kilobyte on tmpfs: a thread would cost more than the read.
        token = self._path.read_text().strip()
        if not token:
            raise CredentialError(f"the token file {self._path} is empty")
        self._header = f"Bearer {token}"
