from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.status.rotation import LIFETIME, RENEW_BEFORE, Authority, Plan, Step, plan

NOW = 1_000_000_000.0
OVERLAP = 600.0
FRESH = Authority(expires=NOW + LIFETIME)
NEXT = replace(FRESH, has_next=True)
SWITCHED = replace(FRESH, switched=NOW)


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        pytest.param(Authority(expires=None), Plan(step=Step.CREATE), id="there is none"),
        pytest.param(FRESH, Plan(step=Step.WAIT, at=NOW + LIFETIME - RENEW_BEFORE), id="all is well"),
        pytest.param(replace(FRESH, requested=True), Plan(step=Step.ANNOUNCE), id="asked for"),
        pytest.param(replace(FRESH, expires=NOW + RENEW_BEFORE), Plan(step=Step.ANNOUNCE), id="near its end"),
        pytest.param(replace(FRESH, expires=NOW - 1), Plan(step=Step.ANNOUNCE), id="past its end"),
        pytest.param(replace(FRESH, ours=False, expires=NOW - 1), Plan(step=Step.WAIT), id="a user's is let alone"),
        pytest.param(replace(FRESH, ours=False, requested=True), Plan(step=Step.REFUSE), id="a user's, asked for"),
        pytest.param(NEXT, Plan(step=Step.WAIT), id="the next one is not public yet"),
        pytest.param(replace(NEXT, next_is_public=True), Plan(step=Step.STAMP), id="it is public now"),
        pytest.param(replace(NEXT, announced=NOW - 599), Plan(step=Step.WAIT, at=NOW + 1), id="in the overlap"),
        pytest.param(replace(NEXT, announced=NOW - 600), Plan(step=Step.SWITCH), id="the overlap is over"),
        pytest.param(replace(NEXT, announced=NOW + 9), Plan(step=Step.STAMP), id="a time that has not come yet"),
        pytest.param(
            replace(NEXT, ours=False, announced=NOW - 600), Plan(step=Step.SWITCH), id="a user's next one takes over"
        ),
        pytest.param(
            replace(NEXT, requested=True, announced=NOW), Plan(step=Step.WAIT, at=NOW + 600), id="asked for once more"
        ),
        pytest.param(SWITCHED, Plan(step=Step.WAIT, at=NOW + 600), id="the old one is still published"),
        pytest.param(replace(SWITCHED, switched=NOW - 600), Plan(step=Step.RETIRE), id="the old one goes"),
        pytest.param(replace(SWITCHED, switched=NOW + 9), Plan(step=Step.STAMP), id="switched in the future"),
    ],
)
def test_steps(authority, expected) -> None:
    assert plan(authority, NOW, OVERLAP) == expected


def take(authority: Authority, step: Step, now: float) -> Authority:
    """What the executor does to the Secret."""
    match step:
        case Step.CREATE:
            return Authority(expires=now + LIFETIME)
        case Step.ANNOUNCE:
            return replace(authority, has_next=True, requested=False)
        case Step.STAMP if authority.has_next:
            return replace(authority, announced=now)
        case Step.STAMP:
            return replace(authority, switched=now)
        case Step.SWITCH:
            return Authority(expires=now + LIFETIME, ours=authority.ours, switched=now)
        case Step.RETIRE:
            return replace(authority, switched=None)
    return authority


@given(
    st.builds(
        Authority,
        expires=st.none() | st.floats(NOW - LIFETIME, NOW + LIFETIME),
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
        step = plan(authority, now, OVERLAP).step
        if step is Step.SWITCH:
            assert announced is not None
            assert now - announced >= OVERLAP
        if step is Step.WAIT:
            now += OVERLAP
            authority = replace(authority, next_is_public=authority.has_next)
        else:
            authority = take(authority, step, now)
            announced = authority.announced
    assert replace(authority, expires=None, announced=None) == Authority(expires=None)
    assert plan(authority, now, OVERLAP).step is Step.WAIT
