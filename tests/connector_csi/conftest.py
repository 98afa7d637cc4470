"""A folder for sockets: a socket path has at most 107 bytes, and pytest's folders are longer."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.connector_csi.lab import Lab


@pytest.fixture
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="csi-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)
