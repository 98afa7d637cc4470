"""Example values that a user has not replaced yet."""

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.objects.address_matching import parse_address
from connector_store.domain.objects.example_values import example_problem
from connector_store.domain.objects.models import Target


@pytest.mark.parametrize(
    ("host", "token", "problem"),
    [
        pytest.param("k8s.corp", "s3cret", None, id="neither is an example"),
        pytest.param("k8s.corp", None, None, id="no credential"),
        pytest.param(
            "k8s.example", "s3cret", "spec.address: k8s.example is an example; enter the address of the target",
            id="the address",
        ),
        pytest.param(
            "k8s.corp", "REPLACE-WITH-A-TOKEN", "the token in Secret s is a placeholder; enter a token of the target",
            id="the token",
        ),
    ],
)  # fmt: skip
def test_the_value_to_replace_is_named(host: str, token: str | None, problem: str | None) -> None:
    target = Target(
        key=ObjectKey("team-a", "k8s"),
        uid="u",
        address=parse_address(f"https://{host}"),
        credential=BearerToken(token) if token is not None else None,
        secret_name="s",
        ca=None,
    )
    assert example_problem(target) == problem
