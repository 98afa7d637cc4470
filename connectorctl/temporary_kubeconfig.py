"""Kubeconfig that exists as long as one command, with a token file that is renewed until then."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.kubeconfig.kubeconfig import TOKEN_FILE, KubeconfigEntry, KubeconfigStyle, build_kubeconfig
from connector_store.kube.errors import ApiError
from connector_store.private_files import write_private
from connectorctl.output import print_message, render_value

RENEWAL_INTERVAL: Final = 600.0
"""Maximum seconds between two renewals of the token. It is earlier in the middle of a token's life."""
RETRY_INTERVAL: Final = 10.0
"""Seconds after which a renewal that failed is tried again."""
MIN_INTERVAL: Final = 1.0
"""Minimum seconds between two renewals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryKubeconfig:
    """Kubeconfig in `path`, with the token in a file next to it. `issue` returns a new token."""

    path: Path
    issue: Callable[[], str]

    @classmethod
    def write(
        cls, folder: Path, entry: KubeconfigEntry, style: KubeconfigStyle, issue: Callable[[], str]
    ) -> tuple[Self, float]:
        """Write both files. Return the kubeconfig, and the seconds until the token is to be renewed."""
        kubeconfig = cls(path=folder / "kubeconfig", issue=issue)
        config = build_kubeconfig([entry], replace(style, rotating=True))
        seconds = kubeconfig._write_token(entry.token or issue())
        write_private(kubeconfig.path, render_value(config, "yaml"))
        return kubeconfig, seconds

    def renew(self) -> float:
        """Replace the token. Return the seconds until the next renewal. A failure is a message, and is tried again."""
        try:
            return self._write_token(self.issue())
        except (OSError, ParseError, ApiError) as error:
            print_message(f"warning: cannot renew the token: {error}; next attempt in {RETRY_INTERVAL:g} s")
            return RETRY_INTERVAL

    def _write_token(self, token: str) -> float:
        write_private(self.path.parent / TOKEN_FILE, token)
        expires_at = read_token_times(token).expires_at
        return RENEWAL_INTERVAL if expires_at is None else renewal_interval(expires_at - time.time())


def renewal_interval(lifetime: float) -> float:
    """Return the seconds after which a token that is valid for `lifetime` seconds is renewed.

    >>> renewal_interval(1800), renewal_interval(300), renewal_interval(-5)
    (600.0, 150.0, 1.0)
    """
    return min(RENEWAL_INTERVAL, max(lifetime / 2, MIN_INTERVAL))
