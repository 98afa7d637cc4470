"""Examples in the docstrings of the product give the results that they show."""

import doctest
import importlib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PACKAGES = ("addons", "connector_controller", "connector_csi", "connector_store", "connectorctl")


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = sorted(
    _module_name(path) for package in PACKAGES for path in (ROOT / package).rglob("*.py") if ">>> " in path.read_text()
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_the_results_that_they_show(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
