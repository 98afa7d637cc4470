import pytest

from connector_store.domain.callers.access import (
    NODE_NAME,
    POD_NAME,
    POD_UID,
    TOKEN_EXTRA,
    Granted,
    Identity,
    Refused,
    Unavailable,
)

BOUND = Identity(user="u", extra={POD_NAME: ("web-0",), POD_UID: ("1-2",), NODE_NAME: ("n1", "n2"), "empty": ()})


@pytest.mark.parametrize(
    ("identity", "pod", "node"),
    [
        pytest.param(BOUND, "web-0", "n1", id="a bound token names pod and node"),
        pytest.param(Identity(user="u"), "", "", id="an unbound token names neither"),
        pytest.param(Identity(user="u", extra={POD_NAME: ()}), "", "", id="an empty list"),
    ],
)
def test_pod_and_node_come_from_extra(identity: Identity, pod: str, node: str) -> None:
    assert (identity.pod, identity.node) == (pod, node)
    assert bool(identity.pod_uid) is bool(pod)


@pytest.mark.parametrize(
    ("extra", "left"),
    [
        pytest.param({}, {}, id="no extra"),
        pytest.param(dict.fromkeys(TOKEN_EXTRA, ("x",)), {}, id="a token's pod, node and id"),
        pytest.param(
            {POD_NAME: ("web-0",), "example.org/team": ("a",)}, {"example.org/team": ("a",)}, id="other fields"
        ),
        pytest.param({"example.org/team": ("a",)}, {"example.org/team": ("a",)}, id="only other fields"),
    ],
)
def test_an_identity_without_its_token_has_only_what_all_tokens_of_the_account_have(
    extra: dict[str, tuple[str, ...]], left: dict[str, tuple[str, ...]]
) -> None:
    identity = Identity(user="u", uid="1", groups=("g",), extra=extra)
    assert identity.without_token() == Identity(user="u", uid="1", groups=("g",), extra=left)


def test_identities_can_be_keys() -> None:
    assert len({BOUND, Identity(user="u", extra=dict(BOUND.extra))}) == 1


def test_results_differ() -> None:
    answers = [Granted(identity=BOUND), Refused(check="use", reason=""), Unavailable(reason="")]
    assert all((a == b) == (a is b) for a in answers for b in answers)
