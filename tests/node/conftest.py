"""The CSI driver for the modules here that ask for it; it is gone again after each."""

from collections.abc import Iterator

import pytest

from lab.node.csi_driver import TOKEN_SECONDS, CsiDriver
from lab.node.node import Node


@pytest.fixture(scope="module")
def driver(node: Node) -> Iterator[CsiDriver]:
    driver = CsiDriver(node, token_seconds=TOKEN_SECONDS)
    driver.start()
    yield driver
    driver.uninstall()
