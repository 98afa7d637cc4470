from collections.abc import AsyncIterator

import pytest

from connector_store.kube import reflector
from connector_store.kube.client import KubeClient
from tests.fakes.api_server import FakeApiServer


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry a failed watch at once."""
    monkeypatch.setattr(reflector, "_INITIAL_BACKOFF", 0.02)


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as fake:
        yield fake


@pytest.fixture
async def client(server: FakeApiServer) -> AsyncIterator[KubeClient]:
    async with KubeClient(server.configuration) as kube_client:
        yield kube_client
