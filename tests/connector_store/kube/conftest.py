import pytest

from connector_store.kube import reflector


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that failed is tried again at once."""
    monkeypatch.setattr(reflector, "_BACKOFF_FIRST", 0.02)
