"""Warnings that kubectl and every other client-go program print, whatever it makes of an answer's body.

>>> warning('renew Secret "k8s"')
(b'Warning', b'299 kubernetes-connector "renew Secret \\\\"k8s\\\\""')

The header is that of RFC 7234 section 5.5 in the form of k8s.io/apimachinery, pkg/util/net: code 299, an agent, a
quoted text, and no date.
"""

from bisect import bisect_right
from itertools import accumulate
from typing import Final

from connector_store.domain.base.headers import Header
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target

MAX_WARNING: Final = 256
"""Bytes of the header's value; a longer text is cut, and says so. A Status holds all of it."""
_AGENT: Final = "kubernetes-connector"
_ELLIPSIS: Final = "..."
_MAX_TEXT: Final = MAX_WARNING - len(f'299 {_AGENT} ""')


def warning_header(text: str) -> Header:
    """A text as one header, in printable ASCII on one line."""
    pieces = [_escape(each) for each in text[:MAX_WARNING]]
    sizes = [*accumulate(map(len, pieces))]
    if sizes and sizes[-1] > _MAX_TEXT:
        pieces[bisect_right(sizes, _MAX_TEXT - len(_ELLIPSIS)) :] = [_ELLIPSIS]
    return b"Warning", f'299 {_AGENT} "{"".join(pieces)}"'.encode("ascii")


def expiry_warning_text(target: Target, *, expires_at: float, now: float, expiry_warning: float) -> str | None:
    """What to say of a credential that ends at `ends`, where that is less than `within` seconds from `now`.

    `ends` and `now` are unix seconds. One that has ended already is said too: clocks differ, and the target decides.
    """
    remaining = expires_at - now
    if remaining > expiry_warning:
        return None
    when = f"ends in {_format_duration(remaining)}" if remaining > 0 else "has ended"
    fix = f"; renew Secret {target.secret_name}" if target.secret_name else ""
    return f"the credential of Connector {target.key} {when}{fix}"


def permissions_warning(key: ObjectKey) -> Header:
    """Beside the target's answer to a review of oneself, which is for the credential."""
    return warning_header(
        f"Connector {key} lends less than the target says here of its credential; "
        f"see: connectorctl can-i VERB RESOURCE --connector {key}, or: "
        f"kubectl get connector {key.name} -n {key.namespace} -o yaml"
    )


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if " " <= character <= "~" else "?"


def _format_duration(seconds: float) -> str:
    """In the largest unit of which there are two at least, rounded down: 3 h, 90 min."""
    for unit, unit_seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit_seconds:
            return f"{int(seconds // unit_seconds)} {unit}"
    return f"{int(seconds)} s"
