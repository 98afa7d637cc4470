from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.status.rotation_plan import (
    CA_LIFETIME,
    RENEW_BEFORE,
    CaState,
    RotationPlan,
    RotationStep,
    plan_rotation,
)

NOW = 1_000_000_000.0
OVERLAP = 600.0
FRESH = CaState(expires_at=NOW + CA_LIFETIME)
NEXT = replace(FRESH, has_next=True)
SWITCHED = replace(FRESH, switched_at=NOW)


@pytest.mark.parametrize(
    ("ca", "expected"),
    [
        pytest.param(CaState(expires_at=None), RotationPlan(step=RotationStep.CREATE), id="no CA"),
        pytest.param(FRESH, RotationPlan(step=RotationStep.WAIT, due_at=NOW + CA_LIFETIME - RENEW_BEFORE), id="fresh"),
        pytest.param(replace(FRESH, rotation_requested=True), RotationPlan(step=RotationStep.ANNOUNCE), id="requested"),
        pytest.param(
            replace(FRESH, expires_at=NOW + RENEW_BEFORE),
            RotationPlan(step=RotationStep.ANNOUNCE),
            id="near its expiry",
        ),
        pytest.param(replace(FRESH, expires_at=NOW - 1), RotationPlan(step=RotationStep.ANNOUNCE), id="expired"),
        pytest.param(
            replace(FRESH, is_own=False, expires_at=NOW - 1),
            RotationPlan(step=RotationStep.WAIT),
            id="a user's CA is not replaced",
        ),
        pytest.param(
            replace(FRESH, is_own=False, rotation_requested=True),
            RotationPlan(step=RotationStep.REFUSE),
            id="a user's CA, requested",
        ),
        pytest.param(NEXT, RotationPlan(step=RotationStep.WAIT), id="the next CA is not published yet"),
        pytest.param(
            replace(NEXT, next_is_published=True), RotationPlan(step=RotationStep.STAMP), id="the next CA is published"
        ),
        pytest.param(
            replace(NEXT, announced_at=NOW - 599),
            RotationPlan(step=RotationStep.WAIT, due_at=NOW + 1),
            id="in the overlap",
        ),
        pytest.param(
            replace(NEXT, announced_at=NOW - 600), RotationPlan(step=RotationStep.SWITCH), id="the overlap is over"
        ),
        pytest.param(
            replace(NEXT, announced_at=NOW + 9),
            RotationPlan(step=RotationStep.STAMP),
            id="announced in the future",
        ),
        pytest.param(
            replace(NEXT, is_own=False, announced_at=NOW - 600),
            RotationPlan(step=RotationStep.SWITCH),
            id="a user's next CA takes over",
        ),
        pytest.param(
            replace(NEXT, rotation_requested=True, announced_at=NOW),
            RotationPlan(step=RotationStep.WAIT, due_at=NOW + 600),
            id="requested again during the overlap",
        ),
        pytest.param(
            SWITCHED, RotationPlan(step=RotationStep.WAIT, due_at=NOW + 600), id="the old CA is still published"
        ),
        pytest.param(
            replace(SWITCHED, switched_at=NOW - 600), RotationPlan(step=RotationStep.RETIRE), id="the old CA is retired"
        ),
        pytest.param(
            replace(SWITCHED, switched_at=NOW + 9), RotationPlan(step=RotationStep.STAMP), id="switched in the future"
        ),
    ],
)
def test_steps(ca, expected) -> None:
    assert plan_rotation(ca, NOW, OVERLAP) == expected


def apply_step(ca: CaState, step: RotationStep, now: float) -> CaState:
    """Return the state after the controller has done `step`."""
    match step:
        case RotationStep.CREATE:
            return CaState(expires_at=now + CA_LIFETIME)
        case RotationStep.ANNOUNCE:
            return replace(ca, has_next=True, rotation_requested=False)
        case RotationStep.STAMP if ca.has_next:
            return replace(ca, announced_at=now)
        case RotationStep.STAMP:
            return replace(ca, switched_at=now)
        case RotationStep.SWITCH:
            return CaState(expires_at=now + CA_LIFETIME, is_own=ca.is_own, switched_at=now)
        case RotationStep.RETIRE:
            return replace(ca, switched_at=None)
    return ca


@given(
    st.builds(
        CaState,
        expires_at=st.none() | st.floats(NOW - CA_LIFETIME, NOW + CA_LIFETIME),
        is_own=st.just(True),
        rotation_requested=st.booleans(),
        has_next=st.booleans(),
        next_is_published=st.booleans(),
        announced_at=st.none() | st.floats(NOW - 2000, NOW + 2000),
        switched_at=st.none() | st.floats(NOW - 2000, NOW + 2000),
    )
)
def test_for_every_state_the_steps_end_and_no_ca_signs_before_its_overlap(ca) -> None:
    now, announced_at = NOW, ca.announced_at if ca.has_next else None
    for _ in range(12):
        step = plan_rotation(ca, now, OVERLAP).step
        if step is RotationStep.SWITCH:
            assert announced_at is not None
            assert now - announced_at >= OVERLAP
        if step is RotationStep.WAIT:
            now += OVERLAP
            ca = replace(ca, next_is_published=ca.has_next)
        else:
            ca = apply_step(ca, step, now)
            announced_at = ca.announced_at
    assert replace(ca, expires_at=None, announced_at=None) == CaState(expires_at=None)
    assert plan_rotation(ca, now, OVERLAP).step is RotationStep.WAIT
