"""A folder for sockets: their paths have at most 107 bytes, and pytest's folders are longer."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def sockets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="csi-", dir="/tmp") as folder:
        yield Path(folder)
