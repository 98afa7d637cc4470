"""A folder for sockets: a socket path has at most 107 bytes, and pytest's folders are longer."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_csi import health
from tests.connector_csi.lab import Lab


@pytest.fixture
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="csi-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def patient_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the driver's sockets on a busy machine, too."""
    monkeypatch.setattr(health, "PROBE_TIMEOUT", 120.0)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
