"""When the proxy's CA changes hands: what is there and the time -> the one next step.

    none -> Create
    requested, or near its end -> Announce       a next CA is made; it signs nothing yet
    next one published -> Stamp                  from here the overlap counts
    overlap over -> Switch                       the next CA signs; its chain holds it cross-signed by the old one
    overlap over again -> Retire                 the old one is published no longer

Each step is one write of the Secret, and each state is read from that Secret alone: a controller that dies between
two steps leaves nothing half done. A CA that a user brought is never replaced by one of ours; a user may put the
next one there, and the same steps follow.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

SIGNING: Final = "mitmproxy-ca.pem"
PUBLISHED: Final = "ca.crt"
NEXT: Final = "next.pem"
"""Keys of the CA's Secret; `ca.crt` is also that of the ConfigMap with its public half."""

LIFETIME: Final = 3 * 365 * 86400.0
"""Seconds that a CA of ours is valid."""

RENEW_BEFORE: Final = 365 * 86400.0
"""Seconds before its end; for so long a client that never reads its kubeconfig again goes on."""


class Step(Enum):
    CREATE = "create"
    ANNOUNCE = "announce"
    STAMP = "stamp"
    SWITCH = "switch"
    RETIRE = "retire"
    REFUSE = "refuse"
    """Asked to rotate a CA that is the user's own."""
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """What the Secret and the ConfigMap hold; times in unix seconds."""

    expires: float | None
    """Of the CA that signs; None while there is none."""
    ours: bool = True
    requested: bool = False
    has_next: bool = False
    next_is_public: bool = False
    """The ConfigMap holds it."""
    announced: float | None = None
    switched: float | None = None
    """None once the former CA is published no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A step to take now; or to WAIT, until `at` if that is not None."""

    step: Step
    at: float | None = None


def plan(authority: Authority, now: float, overlap: float) -> Plan:
    """The one next step; `overlap` is the setting `ca-overlap` in seconds."""
    if authority.expires is None:
        return Plan(step=Step.CREATE)
    if authority.has_next:
        return _hand_over(authority, now, overlap)
    if authority.switched is not None:
        return _after(authority.switched, now, overlap, Step.RETIRE)
    if authority.requested:
        return Plan(step=Step.ANNOUNCE if authority.ours else Step.REFUSE)
    if not authority.ours:
        return Plan(step=Step.WAIT)
    due = authority.expires - RENEW_BEFORE
    return Plan(step=Step.ANNOUNCE) if now >= due else Plan(step=Step.WAIT, at=due)


def _hand_over(authority: Authority, now: float, overlap: float) -> Plan:
    if authority.announced is None:
        return Plan(step=Step.STAMP if authority.next_is_public else Step.WAIT)
    return _after(authority.announced, now, overlap, Step.SWITCH)


def _after(since: float, now: float, overlap: float, step: Step) -> Plan:
    if since > now:
        # From a clock that went ahead: the overlap may be longer than asked for, never shorter.
        return Plan(step=Step.STAMP)
    due = since + overlap
    return Plan(step=step) if now >= due else Plan(step=Step.WAIT, at=due)
