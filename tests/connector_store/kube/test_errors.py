"""Text of an ApiError."""

import pytest

from connector_store.kube.errors import ApiError


@pytest.mark.parametrize(
    ("status", "text"),
    [
        pytest.param(403, "no (HTTP 403)", id="an answer names its status"),
        pytest.param(0, "no", id="no answer, no status"),
    ],
)
def test_text(status: int, text: str) -> None:
    assert str(ApiError(status, "no")) == text
