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
    ("authority", "expected"),
    [
        pytest.param(CaState(expires_at=None), RotationPlan(step=RotationStep.CREATE), id="there is none"),
        pytest.param(
            FRESH, RotationPlan(step=RotationStep.WAIT, due_at=NOW + CA_LIFETIME - RENEW_BEFORE), id="all is well"
        ),
        pytest.param(replace(FRESH, rotation_requested=True), RotationPlan(step=RotationStep.ANNOUNCE), id="asked for"),
        pytest.param(
            replace(FRESH, expires_at=NOW + RENEW_BEFORE), RotationPlan(step=RotationStep.ANNOUNCE), id="near its end"
        ),
        pytest.param(replace(FRESH, expires_at=NOW - 1), RotationPlan(step=RotationStep.ANNOUNCE), id="past its end"),
        pytest.param(
            replace(FRESH, is_own=False, expires_at=NOW - 1),
            RotationPlan(step=RotationStep.WAIT),
            id="a user's is let alone",
        ),
        pytest.param(
            replace(FRESH, is_own=False, rotation_requested=True),
            RotationPlan(step=RotationStep.REFUSE),
            id="a user's, asked for",
        ),
        pytest.param(NEXT, RotationPlan(step=RotationStep.WAIT), id="the next one is not public yet"),
        pytest.param(
            replace(NEXT, next_is_published=True), RotationPlan(step=RotationStep.STAMP), id="it is public now"
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
            id="a time that has not come yet",
        ),
        pytest.param(
            replace(NEXT, is_own=False, announced_at=NOW - 600),
            RotationPlan(step=RotationStep.SWITCH),
            id="a user's next one takes over",
        ),
        pytest.param(
            replace(NEXT, rotation_requested=True, announced_at=NOW),
            RotationPlan(step=RotationStep.WAIT, due_at=NOW + 600),
            id="asked for once more",
        ),
        pytest.param(
            SWITCHED, RotationPlan(step=RotationStep.WAIT, due_at=NOW + 600), id="the old one is still published"
        ),
        pytest.param(
            replace(SWITCHED, switched_at=NOW - 600), RotationPlan(step=RotationStep.RETIRE), id="the old one goes"
        ),
        pytest.param(
            replace(SWITCHED, switched_at=NOW + 9), RotationPlan(step=RotationStep.STAMP), id="switched in the future"
        ),
    ],
)
def test_steps(authority, expected) -> None:
    assert plan_rotation(authority, NOW, OVERLAP) == expected


def take(authority: CaState, step: RotationStep, now: float) -> CaState:
    """What the executor does to the Secret."""
    match step:
        case RotationStep.CREATE:
            return CaState(expires_at=now + CA_LIFETIME)
        case RotationStep.ANNOUNCE:
            return replace(authority, has_next=True, rotation_requested=False)
        case RotationStep.STAMP if authority.has_next:
            return replace(authority, announced_at=now)
        case RotationStep.STAMP:
            return replace(authority, switched_at=now)
        case RotationStep.SWITCH:
            return CaState(expires_at=now + CA_LIFETIME, is_own=authority.is_own, switched_at=now)
        case RotationStep.RETIRE:
            return replace(authority, switched_at=None)
    return authority


@given(
    st.builds(
        CaState,
        expires=st.none() | st.floats(NOW - CA_LIFETIME, NOW + CA_LIFETIME),
        ours=st.just(True),
        requested=st.booleans(),
        has_next=st.booleans(),
        next_is_public=st.booleans(),
        announced=st.none() | st.floats(NOW - 2000, NOW + 2000),
        switched=st.none() | st.floats(NOW - 2000, NOW + 2000),
    )
)
def test_for_every_state_the_steps_end_in_rest_and_nothing_signs_before_its_overlap(authority) -> None:
    now, announced = NOW, authority.announced if authority.has_next else None
    for _ in range(12):
        step = plan_rotation(authority, now, OVERLAP).step
        if step is RotationStep.SWITCH:
            assert announced is not None
            assert now - announced >= OVERLAP
        if step is RotationStep.WAIT:
            now += OVERLAP
            authority = replace(authority, next_is_public=authority.has_next)
        else:
            authority = take(authority, step, now)
            announced = authority.announced_at
    assert replace(authority, expires=None, announced=None) == CaState(expires_at=None)
    assert plan_rotation(authority, now, OVERLAP).step is RotationStep.WAIT
