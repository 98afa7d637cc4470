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

SIGNING_CA_KEY: Final = "mitmproxy-ca.pem"
PUBLISHED_CA_KEY: Final = "ca.crt"
NEXT_CA_KEY: Final = "next.pem"
"""Keys of the CA's Secret; `ca.crt` is also that of the ConfigMap with its public half."""

CA_LIFETIME: Final = 3 * 365 * 86400.0
"""Seconds that a CA of ours is valid."""

RENEW_BEFORE: Final = 365 * 86400.0
"""Seconds before its end; for so long a client that never reads its kubeconfig again goes on."""


class RotationStep(Enum):
    CREATE = "create"
    ANNOUNCE = "announce"
    STAMP = "stamp"
    SWITCH = "switch"
    RETIRE = "retire"
    REFUSE = "refuse"
    """Asked to rotate a CA that is the user's own."""
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaState:
    """What the Secret and the ConfigMap hold; times in unix seconds."""

    expires_at: float | None
    """Of the CA that signs; None while there is none."""
    is_own: bool = True
    rotation_requested: bool = False
    has_next: bool = False
    next_is_published: bool = False
    """The ConfigMap holds it."""
    announced_at: float | None = None
    switched_at: float | None = None
    """None once the former CA is published no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPlan:
    """A step to take now; or to WAIT, until `at` if that is not None."""

    step: RotationStep
    due_at: float | None = None


def plan_rotation(ca: CaState, now: float, overlap: float) -> RotationPlan:
    """The one next step; `overlap` is the setting `ca-overlap` in seconds."""
    if ca.expires_at is None:
        return RotationPlan(step=RotationStep.CREATE)
    if ca.has_next:
        return _plan_switch(ca, now, overlap)
    if ca.switched_at is not None:
        return _plan_after_overlap(ca.switched_at, now, overlap, RotationStep.RETIRE)
    if ca.rotation_requested:
        return RotationPlan(step=RotationStep.ANNOUNCE if ca.is_own else RotationStep.REFUSE)
    if not ca.is_own:
        return RotationPlan(step=RotationStep.WAIT)
    due_at = ca.expires_at - RENEW_BEFORE
    return (
        RotationPlan(step=RotationStep.ANNOUNCE)
        if now >= due_at
        else RotationPlan(step=RotationStep.WAIT, due_at=due_at)
    )


def _plan_switch(ca: CaState, now: float, overlap: float) -> RotationPlan:
    if ca.announced_at is None:
        return RotationPlan(step=RotationStep.STAMP if ca.next_is_published else RotationStep.WAIT)
    return _plan_after_overlap(ca.announced_at, now, overlap, RotationStep.SWITCH)


def _plan_after_overlap(since: float, now: float, overlap: float, step: RotationStep) -> RotationPlan:
    if since > now:
        # From a clock that went ahead: the overlap may be longer than asked for, never shorter.
        return RotationPlan(step=RotationStep.STAMP)
    due_at = since + overlap
    return RotationPlan(step=step) if now >= due_at else RotationPlan(step=RotationStep.WAIT, due_at=due_at)
