"""Text of an ApiError."""

import pytest

from connector_store.kube.errors import ApiError, suppress_status


@pytest.mark.parametrize(
    ("status", "text"),
    [
        pytest.param(403, "no (HTTP 403)", id="an answer names its status"),
        pytest.param(0, "no", id="no answer, no status"),
    ],
)
def test_text(status: int, text: str) -> None:
    assert str(ApiError(status, "no")) == text


def test_only_the_named_statuses_are_suppressed() -> None:
    with suppress_status(404, 409):
        raise ApiError(409, "exists")
    with pytest.raises(ApiError, match="no"), suppress_status(404, 409):
        raise ApiError(403, "no")
