"""Rotation of the proxy's CA: the next step, from the current state and the time.

    no CA -> CREATE
    requested, or near its expiry -> ANNOUNCE    create the next CA; it signs nothing yet
    next CA published -> STAMP                   record the time; the overlap starts
    overlap over -> SWITCH                       the next CA signs; its chain includes its cross-signature by the old CA
    overlap over again -> RETIRE                 stop publishing the old CA

Each step is one write of the Secret, and the state is read only from that Secret. A controller that fails between two
steps leaves no step half done. The controller never replaces a CA that a user has provided with its own. A user can
add the next CA, and the same steps follow.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

SIGNING_CA_KEY: Final = "mitmproxy-ca.pem"
PUBLISHED_CA_KEY: Final = "ca.crt"
NEXT_CA_KEY: Final = "next.pem"
"""Keys of the CA's Secret. The ConfigMap with the public certificates also has the key `ca.crt`."""

CA_LIFETIME: Final = 3 * 365 * 86400.0
"""Validity in seconds of a CA that the controller creates."""

RENEW_BEFORE: Final = 365 * 86400.0
"""Seconds before its expiry when the CA is rotated. A client that never reads its kubeconfig again works that long."""


class RotationStep(Enum):
    CREATE = "create"
    ANNOUNCE = "announce"
    STAMP = "stamp"
    SWITCH = "switch"
    RETIRE = "retire"
    REFUSE = "refuse"
    """Refuse to rotate a CA that the user has provided."""
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaState:
    """State of the CA in the Secret and the ConfigMap. Times are in Unix seconds."""

    expires_at: float | None
    """Expiry of the signing CA, or None if there is none."""
    is_own: bool = True
    rotation_requested: bool = False
    has_next: bool = False
    next_is_published: bool = False
    """The ConfigMap contains the next CA."""
    announced_at: float | None = None
    switched_at: float | None = None
    """Time of the last switch, or None after the former CA has been retired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationPlan:
    """A step to do now. WAIT means to wait until `due_at`, or for a change if that is None."""

    step: RotationStep
    due_at: float | None = None


def plan_rotation(ca: CaState, now: float, overlap: float) -> RotationPlan:
    """Return the next step. `overlap` is the setting `ca-overlap` in seconds."""
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
    if now >= due_at:
        return RotationPlan(step=RotationStep.ANNOUNCE)
    return RotationPlan(step=RotationStep.WAIT, due_at=due_at)


def _plan_switch(ca: CaState, now: float, overlap: float) -> RotationPlan:
    if ca.announced_at is None:
        return RotationPlan(step=RotationStep.STAMP if ca.next_is_published else RotationStep.WAIT)
    return _plan_after_overlap(ca.announced_at, now, overlap, RotationStep.SWITCH)


def _plan_after_overlap(since: float, now: float, overlap: float, step: RotationStep) -> RotationPlan:
    if since > now:
        # The time is from a clock that was ahead. The overlap may be longer than the setting, but never shorter.
        return RotationPlan(step=RotationStep.STAMP)
    due_at = since + overlap
    return RotationPlan(step=step) if now >= due_at else RotationPlan(step=RotationStep.WAIT, due_at=due_at)
