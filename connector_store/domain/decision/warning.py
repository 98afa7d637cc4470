"""Warning headers. kubectl and other client-go programs print them, even if they ignore the response's body.

>>> warning_header('renew Secret "k8s"')
(b'Warning', b'299 kubernetes-connector "renew Secret \\\\"k8s\\\\""')

The format is RFC 7234 section 5.5, as in k8s.io/apimachinery, pkg/util/net: code 299, an agent, a quoted text, and no
date.
"""

from bisect import bisect_right
from itertools import accumulate
from typing import Final

from connector_store.domain.base.headers import Header
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target

MAX_WARNING: Final = 256
"""Maximum bytes of the header's value. A longer text is truncated, and ends with dots. A Status has the full text."""
_AGENT: Final = "kubernetes-connector"
_ELLIPSIS: Final = "..."
_MAX_TEXT: Final = MAX_WARNING - len(f'299 {_AGENT} ""')


def warning_header(text: str) -> Header:
    """Return `text` as a Warning header, in printable ASCII on one line."""
    pieces = [_escape(character) for character in text[:MAX_WARNING]]
    sizes = [*accumulate(map(len, pieces))]
    if sizes and sizes[-1] > _MAX_TEXT:
        pieces[bisect_right(sizes, _MAX_TEXT - len(_ELLIPSIS)) :] = [_ELLIPSIS]
    return b"Warning", f'299 {_AGENT} "{"".join(pieces)}"'.encode("ascii")


def expiry_warning_text(target: Target, *, now: float, expiry_warning: float) -> str | None:
    """Return a warning if the expiry of the credential is reported now (`Credential.expiry_warning_at`), else None.

    `now` is in Unix seconds. An expired credential also gets only a warning, because clocks differ and the target
    decides.
    """
    credential = target.credential
    if credential is None or credential.expires_at is None or now < credential.expiry_warning_at(expiry_warning):
        return None
    remaining = credential.expires_at - now
    when = f"expires in {_format_duration(remaining)}" if remaining > 0 else "has expired"
    fix = f"; renew Secret {target.secret_name}" if target.secret_name else ""
    return f"the credential of Connector {target.key} {when}{fix}"


def dry_run_warning(key: ObjectKey) -> Header:
    """Return the warning for a write that was sent as a dry run."""
    return warning_header(f"nothing was changed: Connector {key} allows dry runs only (spec.permissions.dryRun)")


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if " " <= character <= "~" else "?"


def _format_duration(seconds: float) -> str:
    """Format a duration in the largest unit that gives at least 2, rounded down: 3 h, 90 min."""
    for unit, unit_seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit_seconds:
            return f"{int(seconds // unit_seconds)} {unit}"
    return f"{int(seconds)} s"
